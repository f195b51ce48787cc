"""Whether times are read in the right unit or format, and whether they are fine enough to tell an order."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl

from rallrec_pipeline.datasets.checking.examples import examples_of, raw_rows
from rallrec_pipeline.datasets.checking.findings import Findings, share_of, shown
from rallrec_pipeline.datasets.checking.sheets import Sheet
from rallrec_pipeline.datasets.file_spec import ColumnSpec
from rallrec_pipeline.datasets.guessing.times import EARLIEST_S, UNITS, TimeForm, plausible, time_forms
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import LATEST_S
from rallrec_pipeline.datasets.ties import equal_time_share, tied_borders

EXCEL_DAYS = 20_000, 80_000  # 1954 to 2119 in days since 1899-12-30
EXCEL = "these look like the day numbers of Excel: format the column as a date before you save it as text"
HOW = "write times as seconds since 1970 or as dates such as 2020-09-13 12:26:40"
MAX_WORDS = 3
RARE = 0.01  # share of times up to which another form is no form but a fault
MANY_EQUAL = 0.2  # share of a user's neighbouring ratings of one time from which their order says little
MOST_TEXTS = 1_000_000  # times of a file that are looked at for their forms
FEW_EARLY = 0.5  # share of times below which those before 1980 are not the file's own unit but unknown ones


def time_hint(column: ColumnSpec, rows: pl.LazyFrame) -> str:
    """How the times of a file (`rows` has `timestamp`, text) may have to be read; empty where nothing reads most."""
    texts = rows.select("timestamp").head(MOST_TEXTS).collect()["timestamp"].drop_nulls()
    texts = texts.filter(texts.str.strip_chars() != "")
    forms = time_forms(texts)
    if not forms or sum(form.count for form in forms) <= texts.len() / 2:
        return _excel_hint(texts) or HOW if texts.len() else ""
    if len(forms) > 1 and forms[1].count > RARE * texts.len():
        ways = ", ".join(f"{form.count:,} as {shown(form.example)} ({form.setting})" for form in forms)
        return f"times are mixed, {ways}: write them in one form"
    is_set = (forms[0].column.time_format, forms[0].column.unit) == (column.time_format, column.unit)
    return "" if is_set else _setting_hint(column, forms[0], texts.len())


def _excel_hint(texts: pl.Series) -> str:
    days = texts.cast(pl.Float64, strict=False).is_between(*EXCEL_DAYS).fill_null(False)
    return EXCEL if days.sum() > texts.len() / 2 else ""


def _setting_hint(column: ColumnSpec, form: TimeForm, total: int) -> str:
    reads = "" if form.count == total else f", which reads {form.count:,} of {total:,}"
    other = f"; {json.dumps(form.rival)} reads as many: choose by what you know of the source" if form.rival else ""
    kind = "dates" if form.column.time_format else UNITS[form.column.unit]
    return f"these look like {kind}, {_to_set(column, form.setting)}{reads}{other}"


def _to_set(column: ColumnSpec, setting: str) -> str:
    """What to write in place of the column: the line, since the setting alone would be put beside `columns`."""
    name = json.dumps(column.column, ensure_ascii=False)
    return f"set timestamp = {{ column = {name}, {setting} }} in the columns of [interactions]"


def check_early_times(sheet: Sheet, typed: pl.DataFrame, rows: pl.LazyFrame, found: Findings) -> None:
    """Times that are possible but in the wrong unit, as `20240131`, or of which some are unknown, as 0."""
    times = typed["timestamp"]
    possible = times.filter(times.is_between(0, LATEST_S).fill_null(False))
    if "timestamp" not in sheet.columns or possible.is_empty():
        return
    early = typed.filter(pl.col("timestamp").is_between(0, EARLIEST_S, closed="left").fill_null(False))
    if early.height < possible.len():
        if early.height:
            _tell_unknown(sheet, early, possible, rows, found)
        return
    texts = raw_rows(rows, [typed["line"]], ["timestamp"])["timestamp"]
    is_date = plausible(texts, ColumnSpec(column="x", time_format="%Y%m%d")) > texts.len() / 2
    dates = 'time_format = "%Y%m%d"'
    hint = f"these look like dates, {_to_set(sheet.columns['timestamp'], dates)}" if is_date else ""
    if not hint and sheet.columns["timestamp"].unit != "s":
        hint = time_hint(sheet.columns["timestamp"], rows)
    hint = hint or _excel_hint(texts)
    if hint:
        found.warning(f"{sheet.file}: all times lie before 1980, as {examples_of(texts)}: {hint}")


def _tell_unknown(sheet: Sheet, early: pl.DataFrame, possible: pl.Series, rows: pl.LazyFrame, found: Findings) -> None:
    """Some times lie before 1980, most often because they are not known; in a split by time they come first."""
    texts = raw_rows(rows, [early["line"]], ["timestamp"])["timestamp"]
    words = json.dumps(texts.fill_null("").str.strip_chars().unique(maintain_order=True).head(MAX_WORDS).to_list())
    others = possible.filter(possible >= EARLIEST_S)
    first = datetime.fromtimestamp(float(others.to_numpy().min()), UTC)
    share = share_of(early.height, possible.len(), "times")
    few = early.height < FEW_EARLY * possible.len()
    column = json.dumps(sheet.columns["timestamp"].column, ensure_ascii=False)
    mend = f"if that means unknown, set timestamp = {{ column = {column}, empty = {words} }}, which refuses them"
    found.warning(
        f"{sheet.at(early['line'][0])}: {share} lie before 1980, as {examples_of(texts)}"
        f"{f', the others begin at {first:%Y-%m-%d}' if few else ''}; in the order of time they come first: {mend}"
    )


def check_ties(
    spec: DatasetSpec, name: str, core: pl.DataFrame, samples: pl.DataFrame, found: Findings
) -> float | None:
    """Times that are too coarse to tell an order under the protocol `name`, which `spec` has in force.

    Returns the share of the neighbouring ratings of a user in `core` that have the same time; None without times.
    """
    share = equal_time_share(core)
    if share is not None and share > MANY_EQUAL:
        order = "drawn from the seed" if spec.protocol.orders_users_alone else "that of the item ids"
        found.warning(
            f"protocol {name}: {share:.1%} of the neighbouring ratings of a user have the same time, their order is "
            f"{order}: give finer times if the source has them"
        )
    borders = tied_borders(samples, core) if spec.protocol.split == "time" else []
    for before, after, second in borders:
        found.warning(
            f"protocol {name}: the border between {before} and {after} falls among ratings of one time "
            f"({datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}), there the ids decide: "
            "give finer times if the source has them"
        )
    return share
