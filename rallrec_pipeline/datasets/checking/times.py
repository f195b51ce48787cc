"""Whether times are read in the right unit or format, and whether they are fine enough to tell an order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from rallrec_pipeline.datasets.checking.examples import examples_of, raw_rows
from rallrec_pipeline.datasets.checking.findings import Findings
from rallrec_pipeline.datasets.checking.sheets import Sheet
from rallrec_pipeline.datasets.fields import time_field
from rallrec_pipeline.datasets.spec import ColumnSpec, DatasetSpec
from rallrec_pipeline.datasets.tables import LATEST_S
from rallrec_pipeline.datasets.ties import equal_time_share, tied_borders

Unit = Literal["s", "ms", "us", "ns"]

MANY_EQUAL = 0.2  # share of a user's neighbouring ratings of one time from which their order says little
EARLIEST_S = 315_532_800  # 1980: no ratings are older, so smaller numbers are in another unit
UNITS: dict[Unit, str] = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "s": "seconds"}
DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M", "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S", "%m %d, %Y", "%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y",
)  # fmt: skip


def time_hint(column: ColumnSpec, texts: pl.Series) -> str:
    """How times that are none may have to be read; empty where nothing fits most of them."""
    guesses = [ColumnSpec(column="x", unit=unit) for unit in UNITS]
    guesses += [ColumnSpec(column="x", time_format=known) for known in DATE_FORMATS]
    counts = [_plausible(texts, guess) for guess in guesses]
    best = counts.index(max(counts))
    guess = guesses[best]
    if counts[best] <= texts.len() / 2:
        return ""
    if guess.time_format:
        return f"these look like dates, set time_format = {json.dumps(guess.time_format)}"
    without = " and take time_format out" if column.time_format else ""
    return f'these look like {UNITS[guess.unit]}, set unit = "{guess.unit}"{without}'


def check_early_times(sheet: Sheet, typed: pl.DataFrame, rows: pl.LazyFrame, found: Findings) -> None:
    """Times that are possible but in the wrong unit: `20240131` and seconds taken for milliseconds lie in 1970."""
    times = typed["timestamp"]
    latest = times.filter(times.is_between(0, LATEST_S)).max()
    if "timestamp" not in sheet.columns or not isinstance(latest, float) or latest >= EARLIEST_S:
        return
    texts = raw_rows(rows, [typed["line"]], ["timestamp"])["timestamp"]
    is_date = _plausible(texts, ColumnSpec(column="x", time_format="%Y%m%d")) > texts.len() / 2
    hint = 'these look like dates, set time_format = "%Y%m%d"' if is_date else ""
    if hint or sheet.columns["timestamp"].unit != "s":
        hint = hint or time_hint(sheet.columns["timestamp"], texts)
    if hint:
        found.warning(f"{sheet.file}: all times lie before 1980, as {examples_of(texts)}: {hint}")


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


def _plausible(texts: pl.Series, column: ColumnSpec) -> int:
    """How many of `texts` are a time of the last decades when read as `column` says."""
    frame = texts.alias("x").to_frame()
    times = frame.select(time_field("x", column, ()))["x"]
    return int(times.is_between(EARLIEST_S, LATEST_S).sum())
