"""The columns that the TOML file names: whether the file has them, and whether their rules can be run and matter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.checking.findings import Findings, listed, shown
from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.fields import text_field, time_field
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.guessing.layout import AS_JSON, layout_of
from rallrec_pipeline.datasets.readers import mapped_columns
from rallrec_pipeline.datasets.rows import column_names
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.text import clean_text

ALLOWED_RULES = {"rating": {"values"}, "timestamp": {"unit", "time_format"}}
WANTED = {"interactions": ("user_id", "item_id"), "items": ("item_id", "title"), "users": ("user_id",)}


def columns_of(kind: str, table: TableFile) -> dict[str, ColumnSpec]:
    """The columns that the table of a `kind` is read from, those that go without saying too."""
    return mapped_columns(table, WANTED[kind])


def check_settings(spec: DatasetSpec, found: Findings) -> None:
    """What the settings of columns say to no effect, or say twice."""
    tables = {"interactions": spec.interactions, "items": spec.items, "users": spec.users}
    for kind, table in tables.items():
        if table is not None:
            _check_idle_rules(kind, table, found)
            _check_used_twice(kind, columns_of(kind, table), found)


def _check_idle_rules(kind: str, table: TableFile, found: Findings) -> None:
    """Rules of columns that nothing reads: ids are taken as they are."""
    for name, column in table.columns.items():
        is_plain = kind == "interactions" or name in ("item_id", "user_id")
        set_ = column.model_fields_set - {"column", "empty"}
        idle = set_ - ALLOWED_RULES.get(name, set()) if is_plain else set_ & {"unit", "time_format"}
        if idle:
            rules = ", ".join(sorted(idle))
            found.warning(f"{kind}.columns.{name}: {rules} has no effect there, so the file must say it plainly")


def _check_used_twice(kind: str, columns: Mapping[str, ColumnSpec], found: Findings) -> None:
    """A catalogue may make two fields of one column, a year of a title, but not the same; ratings may not at all."""
    for one, other in combinations(columns, 2):
        if columns[one].column != columns[other].column:
            continue
        both = f"{kind}.columns: {one} and {other} are both {shown(columns[one].column)}"
        if kind == "interactions":
            found.problem(f"{both}: name the right column of each")
        elif columns[one] == columns[other]:
            found.warning(f"{both}, so they say the same: correct one or take it out")


def missing_columns(path: Path, table: TableFile, kind: str, columns: Mapping[str, str]) -> str:
    """That the file does not have `columns` (canonical name: name in the file), what it has, and how to mend it."""
    names = column_names(path, table)
    wanted = ", ".join(f"{shown(column)} (for {name})" for name, column in columns.items())
    twice = any(names.count(column) > 1 for column in columns.values())
    lacks = "must have once" if twice else "has nothing in" if table.format == "json_lines" else "lacks"
    what = "field" if table.format == "json_lines" else "column"
    hint = _layout_hint(path, table, names) or f"mend {kind}.columns or the file"
    return f"{path.name} {lacks} the {what} {wanted}; it has {listed(names)}: {hint}"


def _layout_hint(path: Path, table: TableFile, names: Sequence[str]) -> str:
    """How the whole file may have to be read where its columns make no sense."""
    if table.format in BINARY or table.header or (table.format == "json_lines" and names):
        return ""
    layout = layout_of(path)
    if layout.fault or layout.format == "json_lines":
        same = table.format == layout.format
        return (layout.fault or AS_JSON) if same else f'set format = "{layout.format}"'
    set_: dict[str, str | int] = {}
    if layout.skip_lines != table.skip_lines:
        set_["skip_lines"] = layout.skip_lines
    if len(names) != layout.fields and layout.format != table.format:
        set_["format"] = layout.format
    if len(names) != layout.fields > 1 and layout.separator != table.separator:
        set_["separator"] = layout.separator
    hints = [", ".join(f"{key} = {json.dumps(value)}" for key, value in set_.items())] if set_ else []
    hints = [f"set {hint}" for hint in hints]
    if not layout.has_header:
        hints.append(f"the first line looks like data, so name the columns with `header` (a list of {layout.fields})")
    return "; ".join(hints)


def broken_rules(kind: str, table: TableFile, columns: Mapping[str, ColumnSpec], found: Findings) -> list[str]:
    """Columns whose rules cannot be run: regular expressions and time formats that polars does not know."""
    broken = []
    for name, column in columns.items():
        read = time_field if name == "timestamp" and kind == "interactions" else text_field
        try:
            pl.DataFrame({name: ["x"]}).select(read(name, column, table.empty))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = clean_text(str(error).partition("This error occurred")[0], 200)
            found.problem(f"{kind}.columns.{name}: its rules cannot be run ({reason}): correct them")
            broken.append(name)
    return broken
