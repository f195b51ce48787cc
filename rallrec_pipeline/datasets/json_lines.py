"""JSON lines to columns of text; a line that is no object is handed back, never dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.fields import ENTRY

UNCLEAR = r"^\[|^-?\d(\.\d+)?e\+?\d+$|^\{.*\de\+?\d"
"""A list, or a text that begins like one (the film "[REC]"); a number without its last digits, or what looks so."""
SLICE = 10_000  # rows that are Python objects at once


def split_objects(lines: pl.LazyFrame, columns: Mapping[str, str]) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """(rows with `line`, `text` and `columns` as text; refused rows with `line`, `reason`, `text`).

    `columns` maps the name that a column gets to its name in the objects, which may be `text` or `line` too; `a.b` is
    the field of that name, else field b of the object a. A list becomes its entries with `ENTRY` between them, missing
    ones empty; a missing value is null. Integers keep all their digits.
    """
    is_object = pl.col("text").str.json_path_match("$").str.starts_with("{").fill_null(False)
    refused = lines.filter(~is_object).select("line", pl.lit("no JSON object").alias("reason"), "text").collect()
    values = [_value(column).alias(name) for name, column in columns.items()]
    return lines.filter(is_object).select("line", "text", *values), refused


def keys_of(lines: pl.LazyFrame, rows: int = 1000) -> list[str]:
    """Names of the fields in the first `rows` objects; nested ones as `a.b`."""
    names: dict[str, None] = {}
    for text in lines.head(rows).collect()["text"]:
        try:
            names.update(dict.fromkeys(_flat(json.loads(text))))
        except (ValueError, RecursionError):
            continue
    return list(names)


def _value(column: str) -> pl.Expr:
    """The column as text: Polars finds it, and Python reads again what Polars does not tell for certain."""
    found = pl.coalesce(pl.col("text").str.json_path_match(path) for path in _paths(column))
    unclear = found.str.contains(UNCLEAR).fill_null(False)
    texts = pl.when(unclear).then(pl.col("text"))
    exact = texts.map_batches(partial(_exact_values, column), return_dtype=pl.String, is_elementwise=True)
    return pl.when(unclear).then(exact).otherwise(found)


def _paths(column: str) -> list[str]:
    """Where a column may stand: under its whole name, or nested."""
    whole, nested = [column], column.split(".")
    return [
        "$" + "".join(f"[{json.dumps(part, ensure_ascii=False)}]" for part in parts)
        for parts in ([whole, nested] if len(nested) > 1 else [whole])
    ]


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
