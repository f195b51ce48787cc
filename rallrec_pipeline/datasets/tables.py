"""What every reader gives, and the rules that hold for ratings of any format.

Policies: an empty id, a rating that is no number or no value of the scale, an impossible time and (unless the
dataset keeps them) an unknown item are refused. Of several ratings of one item by one user the latest stays, of equal
times the last in the file. Of several catalogue rows of one id the first stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

REJECTED = {"file": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String}
LATEST_S = 4_102_444_800  # the year 2100: milliseconds taken for seconds are later
MAX_TEXT = 1000  # characters of a refused row that are kept
REPEATED = "repeated rating, a later one stays"
UNKNOWN_ITEM = "unknown item"


@dataclass(frozen=True)
class RawTable:
    """A canonical table, and the raw rows that it did not take."""

    table: pl.DataFrame
    rejected: pl.DataFrame


@dataclass(frozen=True)
class RawTables:
    """All canonical tables of one dataset, and the raw rows that none of them took."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    rejected: pl.DataFrame


def rejected_rows(rows: pl.DataFrame, file: str) -> pl.DataFrame:
    """`rows` (columns line, reason, text) as rows of the table `rejected_rows`."""
    text = pl.col("text").cast(pl.String).str.slice(0, MAX_TEXT)
    return rows.select(
        pl.lit(file).alias("file"), pl.col("line").cast(pl.Int64), pl.col("reason").cast(pl.String), text
    )


def judge_ratings(
    rows: pl.DataFrame, scale: Sequence[float], item_ids: pl.Series | None, has_times: bool = True
) -> pl.DataFrame:
    """`rows` with a column `reason`: null where the rating is good.

    `rows` has user_id, item_id (text), rating, timestamp (float, null where not a number), line. `item_ids` are the
    known items; None knows all. Without times no timestamp is judged.
    """
    allowed = pl.Series([float(value) for value in scale])
    reason = (
        pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("empty user id"))
        .when(pl.col("item_id").fill_null("") == "").then(pl.lit("empty item id"))
        .when(~pl.col("rating").is_finite().fill_null(False)).then(pl.lit("rating is not a number"))
        .when(~pl.col("rating").is_in(allowed.implode())).then(pl.lit("rating is off the scale"))
    )  # fmt: skip
    if has_times:
        possible = pl.col("timestamp").is_between(0, LATEST_S).fill_null(False)
        reason = reason.when(~possible).then(pl.lit("impossible timestamp"))
    if item_ids is not None:
        reason = reason.when(~pl.col("item_id").is_in(item_ids.implode())).then(pl.lit(UNKNOWN_ITEM))
    judged = rows.with_columns(reason.alias("reason"))
    repeated = _repeated_lines(judged.filter(pl.col("reason").is_null()))
    if repeated.is_empty():
        return judged
    return judged.with_columns(
        pl.when(pl.col("line").is_in(repeated.implode())).then(pl.lit(REPEATED)).otherwise("reason").alias("reason")
    )


def judge_ids(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    """`rows` of a catalogue with a column `reason`: an id must be there and not have been seen before."""
    empty = pl.col(key).fill_null("") == ""
    return rows.with_columns(
        pl.when(empty)
        .then(pl.lit("empty id"))
        .when(~pl.col(key).is_first_distinct())
        .then(pl.lit("repeated id, the first stays"))
        .alias("reason")
    )


def _repeated_lines(good: pl.DataFrame) -> pl.Series:
    """Lines of ratings that a later one replaces."""
    suspects = _maybe_repeated(good)
    pairs = suspects.filter(pl.struct("user_id", "item_id").is_duplicated()).sort("timestamp", "line")
    return pairs.filter(~pl.struct("user_id", "item_id").is_last_distinct())["line"]


def _maybe_repeated(good: pl.DataFrame) -> pl.DataFrame:
    """The rows whose pair has the same hash as another: all that are repeated, and by chance hardly any more.

    Sorting numbers takes a fraction of the time and memory of looking at the ids themselves.
    """
    hashes = good.select(pl.struct("user_id", "item_id").hash()).to_series()
    ordered = np.sort(hashes.to_numpy())
    twice = pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    return good.filter(hashes.is_in(twice.implode())) if len(twice) else good.clear()
