"""JSON lines to columns of text; a line that is no object is handed back, never dropped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.documents import MOST, is_begun, records_of
from rallrec_pipeline.datasets.fields import ENTRY
from rallrec_pipeline.datasets.objects import as_json, object_of

UNCLEAR = r"^\[|^-?\d(\.\d+)?e\+?\d+$|^\{.*\de\+?\d"
"""A list, or a text that begins like one (the film "[REC]"); a number without its last digits, or what looks so."""
NO_OBJECT = "no JSON object"
PLACE = re.compile(r"[0-9]{1,6}")  # of an entry in a list, from 0
SLICE = 10_000  # rows that are Python objects at once


JSON = "\x1fjson"  # column of the object as JSON that Polars can read; null where the line is no object
BEGINS_AT = "\x1fat"  # column of the line of the file in which an object begins


@contextmanager
def open_objects(lines: pl.LazyFrame, scratch: Path) -> Iterator[pl.LazyFrame]:
    """`lines` (`line`, `text`) that are not empty, with the columns JSON and BEGINS_AT.

    Where they are one document, its objects are the lines, counted from 1. Lines that Polars does not read are read by
    Python, once, into a file below `scratch`: NaN, and literals of Python.
    """
    lines = lines.filter(pl.col("text") != "")
    found = records_of_document(lines)
    lines = lines.with_columns(pl.col("line").alias(BEGINS_AT)) if found.is_empty() else found.lazy()
    is_object = pl.col("text").str.json_path_match("$").str.starts_with("{").fill_null(False)
    good, others = lines.filter(is_object).with_columns(pl.col("text").alias(JSON)), lines.filter(~is_object)
    if others.head(1).collect().is_empty():
        yield good
        return
    with TemporaryDirectory(dir=scratch, prefix=".objects-") as folder:
        mended = pl.col("text").map_batches(_mended, return_dtype=pl.String, is_elementwise=True)
        others.with_columns(mended.alias(JSON)).sink_parquet(Path(folder) / "others.parquet")
        yield pl.concat([good, pl.scan_parquet(Path(folder) / "others.parquet", glob=False)])


def records_of_document(lines: pl.LazyFrame) -> pl.DataFrame:
    """The objects of `lines` (`line`, `text`) as they are written, if these are one document; else none.

    `line` counts them from 1, BEGINS_AT is the line in which each begins.
    """
    lines = lines.filter(pl.col("text") != "")
    start = lines.head(2).collect()["text"]
    none = pl.DataFrame(schema={"line": pl.Int64, "text": pl.String, BEGINS_AT: pl.Int64})
    if start.is_empty() or not is_begun("\n".join(start)) or (start.len() > 1 and object_of(start[0]) is not None):
        return none
    if int(lines.select(pl.col("text").str.len_chars().sum()).collect().item()) > MOST:
        return none
    whole = lines.collect().sort("line")
    found = records_of("\n".join(whole["text"]))
    if not found:
        return none
    ends = (whole["text"].str.len_chars().cast(pl.Int64) + 1).cum_sum()
    begins = whole["line"].gather(ends.search_sorted(pl.Series([place for place, _ in found]), side="right"))
    objects = {"line": range(1, len(found) + 1), "text": [text for _, text in found], BEGINS_AT: begins}
    return pl.DataFrame(objects, schema=none.schema)


def _mended(texts: pl.Series) -> pl.Series:
    """Each line (n,) as JSON, null where it is no object."""
    found = (object_of(text) for text in texts)
    return pl.Series(texts.name, [None if value is None else as_json(value) for value in found], pl.String)


def split_objects(objects: pl.LazyFrame, columns: Mapping[str, str]) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """(rows with `line`, `text`, BEGINS_AT and `columns` as text; refused rows with `line`, `reason`, `text`).

    `objects` are those of `open_objects`.
    `columns` maps the name that a column gets to its name in the objects, which may be `text` or `line` too; `a.b` is
    the field of that name, else field b of the object a, and `a.0` the first entry of the list a. A list becomes its
    entries with `ENTRY` between them, missing ones empty; a missing value is null. Integers keep all their digits.
    """
    is_object = pl.col(JSON).is_not_null()
    refused = objects.filter(~is_object).select("line", pl.lit(NO_OBJECT).alias("reason"), "text").collect()
    values = [_value(column).alias(name) for name, column in columns.items()]
    return objects.filter(is_object).select("line", "text", BEGINS_AT, *values), refused


def keys_of(objects: pl.LazyFrame, rows: int = 1000) -> list[str]:
    """Names of the fields in the first `rows` objects; nested ones as `a.b`."""
    names: dict[str, None] = {}
    for text in objects.head(rows).collect()[JSON].drop_nulls():
        try:
            names.update(dict.fromkeys(_flat(json.loads(text))))
        except (ValueError, RecursionError):
            continue
    return list(names)


def _value(column: str) -> pl.Expr:
    """The column as text: Polars finds it, and Python reads again what Polars does not tell for certain."""
    found = pl.coalesce(pl.col(JSON).str.json_path_match(path) for path in _paths(column))
    unclear = found.str.contains(UNCLEAR).fill_null(False)
    texts = pl.when(unclear).then(pl.col(JSON))
    exact = texts.map_batches(partial(_exact_values, column), return_dtype=pl.String, is_elementwise=True)
    return pl.when(unclear).then(exact).otherwise(found)


def _paths(column: str) -> list[str]:
    """Where a column may stand: under its whole name, or nested in objects or lists."""
    parts = column.split(".")
    keys = [f"[{json.dumps(part, ensure_ascii=False)}]" for part in (column, *parts)]
    places = [f"[{part}]" if PLACE.fullmatch(part) else key for part, key in zip(parts, keys[1:], strict=True)]
    nested = ["".join(keys[1:])] + ([keys[1] + "".join(places[1:])] if places[1:] != keys[2:] else [])
    return ["$" + path for path in ([keys[0], *nested] if len(parts) > 1 else keys[:1])]


def _exact_values(column: str, texts: pl.Series) -> pl.Series:
    """`column` of each object (n,) as text; null where there is no object."""
    if texts.null_count() == texts.len():
        return texts
    slices = (texts.slice(first, SLICE) for first in range(0, texts.len(), SLICE))
    return pl.concat([pl.Series(texts.name, _exact_texts(column, part), pl.String) for part in slices])


def _exact_texts(column: str, texts: pl.Series) -> list[str | None]:
    return [None if text is None else _as_text(_field(json.loads(text), column)) for text in texts]


def _field(found: Any, column: str) -> Any:
    if column in found:
        return found[column]
    for part in column.split("."):
        if isinstance(found, list) and PLACE.fullmatch(part):
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _as_text(value: Any) -> str | None:
    """A value as text: a list's entries with ENTRY between them, what is nested deeper as JSON."""
    if isinstance(value, list):
        return ENTRY.join(_as_json(entry) if isinstance(entry, list) else _as_text(entry) or "" for entry in value)
    if value is None or isinstance(value, str):
        return value
    return _as_json(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _flat(value: object, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    names = []
    for key, inner in value.items():
        names += [prefix + key, *_flat(inner, f"{prefix}{key}.")]
    return names
