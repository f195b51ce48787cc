"""JSON lines to columns of text; a line that is no object is handed back, never dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from rallrec_pipeline.datasets.fields import ENTRY

MAX_ENTRIES = 12  # of a list; more are left out
NO_ENTRY = r"^\[(null(,null)*)?\]$"


def split_objects(lines: pl.LazyFrame, columns: Mapping[str, str]) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """(rows with `line`, `text` and `columns` as text; refused rows with `line`, `reason`, `text`).

    `columns` maps the name that a column gets to its name in the objects, which may be `text` or `line` too. A list
    becomes its entries with `ENTRY` between them; a missing value is null.
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
    path = "$" + "".join(f"[{json.dumps(part, ensure_ascii=False)}]" for part in column.split("."))
    whole = pl.col("text").str.json_path_match(path)
    entries = [pl.col("text").str.json_path_match(f"{path}[{i}]") for i in range(MAX_ENTRIES)]
    joined = pl.concat_str(entries, separator=ENTRY, ignore_nulls=True)
    # A text may begin with a bracket too (the film "[REC]"), but it has no entries.
    is_list = pl.any_horizontal(entry.is_not_null() for entry in entries) | whole.str.contains(NO_ENTRY)
    return pl.when(whole.str.starts_with("[") & is_list).then(joined).otherwise(whole)


def _flat(value: object, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    names = []
    for key, inner in value.items():
        names += [prefix + key, *_flat(inner, f"{prefix}{key}.")]
    return names
