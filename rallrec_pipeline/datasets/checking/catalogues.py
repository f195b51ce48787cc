"""The rows of items and users: their ids, and what becomes of their fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.checking.examples import among, examples_of
from rallrec_pipeline.datasets.checking.findings import Findings, share_of
from rallrec_pipeline.datasets.checking.ids import check_ids
from rallrec_pipeline.datasets.checking.sheets import (
    Sheet,
    open_sheet,
    tell_empty,
    tell_malformed,
    tell_merged,
    telling,
)
from rallrec_pipeline.datasets.fields import id_field, text_field
from rallrec_pipeline.datasets.file_spec import ColumnSpec
from rallrec_pipeline.datasets.rows import open_rows
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import judge_ids

MOSTLY_LOST = 0.5  # share of a field's values that its rules turn into nothing
JSON_TEXT = r"^(\[.*\]|\{.*\})$"
FEW_NESTED = 0.05  # share of values up to which text in brackets is the text of a title
GIVEN = "\x1f"  # before the name of a field: whether the file says anything there


def check_items(spec: DatasetSpec, place: Path, found: Findings) -> pl.DataFrame | None:
    """item_id, title and fields of the items that are kept; None where nothing tells their ids."""
    sheet = open_sheet(spec, place, spec.items, "items", found)
    fields = ("title", *spec.item_fields)
    return None if sheet is None else _check_catalogue(spec, sheet, "item_id", fields, found)


def check_users(spec: DatasetSpec, place: Path, found: Findings) -> pl.DataFrame | None:
    """user_id and fields of the users that are kept; None where nothing tells their ids, or there is no such file."""
    sheet = open_sheet(spec, place, spec.users, "users", found) if spec.users else None
    return None if sheet is None else _check_catalogue(spec, sheet, "user_id", spec.user_fields, found)


def _check_catalogue(
    spec: DatasetSpec, sheet: Sheet, key: str, names: Sequence[str], found: Findings
) -> pl.DataFrame | None:
    fields = [name for name in names if name in sheet.columns]
    with telling(found, sheet.path), open_rows(sheet.path, sheet.table, sheet.columns) as (rows, malformed):
        values = [text_field(name, sheet.columns[name], sheet.table.empty) for name in fields]
        given = [_is_given(name).alias(GIVEN + name) for name in fields]
        read = (
            sheet.whole(rows, [key])
            .select(
                "line",
                id_field(key, sheet.columns.get(key) or ColumnSpec(column=key), sheet.table.empty),
                *values,
                *given,
            )
            .collect()
            .sort("line")
        )
        found.figures["rows"][sheet.kind] = total = read.height + malformed.height
        if not total:
            tell_empty(sheet, found)
            return None
        tell_malformed(sheet, malformed, total, malformed.height > spec.max_rejected * total, found)
        found.refused(sheet.kind, malformed["reason"])
        kept = read if key in sheet.missing else _check_ids(sheet, read, key, fields, spec.max_rejected, found)
        tell_merged(sheet, rows, found)
        check_ids(sheet, read, rows, (key,), found)
        for name in fields if kept.height else []:
            _check_field(sheet, kept, name, rows, found)
            _tell_nested(sheet, kept, name, found)
        return None if key in sheet.missing else kept.select(key, *fields)
    return None


def _check_ids(
    sheet: Sheet, read: pl.DataFrame, key: str, fields: Sequence[str], bound: float, found: Findings
) -> pl.DataFrame:
    """The rows that stay: with an id, the first of each."""
    judged = judge_ids(read, key)
    found.refused(sheet.kind, judged["reason"])
    empty = judged.filter(pl.col(key) == "")
    if empty.height:
        share = share_of(empty.height, judged.height, "rows")
        grave = empty.height > bound * judged.height
        found.fault(grave, f"{sheet.at(empty['line'][0])}: {share} have an empty {key}: they are left out, mend them")
    repeated = judged.filter((pl.col(key) != "") & pl.col("reason").is_not_null())
    if repeated.height:
        _tell_repeated(sheet, judged, repeated, key, fields, found)
    return judged.filter(pl.col("reason").is_null())


def _tell_repeated(
    sheet: Sheet, judged: pl.DataFrame, repeated: pl.DataFrame, key: str, fields: Sequence[str], found: Findings
) -> None:
    """Rows that say the same twice harm nothing; of rows that differ somebody must choose."""
    versions = judged.filter(pl.col(key) != "").unique([key, *fields]).group_by(key).len().filter(pl.col("len") > 1)
    unclear = repeated.join(versions, on=key, how="semi", maintain_order="left")
    alike = repeated.height - unclear.height
    if unclear.height:
        ids = examples_of(unclear[key])
        count = f"{versions.height:,} of {judged[key].n_unique():,} ids come more than once and tell different things"
        found.problem(f"{sheet.at(unclear['line'][0])}: {count}, as {ids}: the first row would stay, mend the file")
    if alike:
        share = share_of(alike, judged.height, "rows")
        found.warning(f"{sheet.at(repeated['line'][0])}: {share} say an earlier row's {key} again: they are left out")


def _check_field(sheet: Sheet, kept: pl.DataFrame, name: str, rows: pl.LazyFrame, found: Findings) -> None:
    """A field that is empty: everywhere, where the file does say something, or (a title) at all."""
    place = f"{sheet.kind}.columns.{name}"
    filled, given = int((kept[name] != "").sum()), int(kept[GIVEN + name].sum())
    lost = kept.filter((pl.col(name) == "") & pl.col(GIVEN + name))
    if not given:
        found.problem(f"{sheet.file}: {name} is empty in all rows: correct {place}, or take it out")
        return
    if lost.height > MOSTLY_LOST * given:
        texts = rows.filter(among(lost["line"])).sort("line").select(name).collect()[name]
        rules = ", ".join(sorted(sheet.columns[name].model_fields_set - {"column"})) or "empty"
        share = share_of(lost.height, given, "values")
        what = f"{place} makes nothing of {share}, as {examples_of(texts)}"
        found.fault(not filled, f"{sheet.file}: {what}: correct {rules}")
    if name == "title" and filled < kept.height and filled:
        first = kept.filter(pl.col(name) == "")["line"][0]
        share = share_of(kept.height - filled, kept.height, f"{sheet.kind}")
        found.warning(f"{sheet.at(first)}: {share} have an empty title: prompts have only their other fields")


def _tell_nested(sheet: Sheet, kept: pl.DataFrame, name: str, found: Findings) -> None:
    """A field that is JSON text, of a list within a list or of an object, would go into prompts as it stands."""
    texts = kept[name].filter(kept[name].str.contains(JSON_TEXT))
    if texts.len() <= FEW_NESTED * max(1, int((kept[name] != "").sum())) or _parsed(texts[0]) is None:
        return
    column = sheet.columns[name].column
    held = _parsed(texts[0])
    path = f"{column}.0" if isinstance(held, list) else f"{column}.{next(iter(held or {'x': 0}))}"
    what = "lists within a list" if isinstance(held, list) else "objects"
    found.warning(
        f"{sheet.file}: {sheet.kind}.columns.{name} reads {what} as JSON text, as {examples_of(texts)}: name what is "
        f'meant by its path, as column = "{path}"'
    )


def _parsed(text: str) -> list[object] | dict[str, object] | None:
    try:
        found = json.loads(text.partition("], [")[0] + "]" if text.startswith("[") and "], [" in text else text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list | dict) and found else None


def _is_given(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars() != ""
