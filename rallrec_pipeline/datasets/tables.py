"""What every reader gives, and the rules that hold for ratings of any format.

Policies: an empty id, a rating that is no number or no value of the scale, an impossible time and (unless the
dataset keeps them) an unknown item are refused. Of several ratings of one item by one user the latest stays (or the
first, as the dataset says), of equal times the last (the first) in the file. Of several catalogue rows of one id the
first stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

Repeats = Literal["last", "first"]
"""Which of several ratings of an item by a user stays."""

REFUSED = {"line": pl.Int64, "reason": pl.String, "text": pl.String}  # columns of the rows that a reader refuses
RATINGS = "interactions"  # the table whose refused rows are counted
LATEST_S = 4_102_444_800  # the year 2100: milliseconds taken for seconds are later
MAX_TEXT = 1000  # characters of a refused row that are kept
REPEATED: dict[Repeats, str] = {
    "last": "repeated rating, a later one stays",
    "first": "repeated rating, an earlier one stays",
}
UNKNOWN_ITEM = "unknown item"
NOT_A_NUMBER, OFF_SCALE = "rating is not a number", "rating is off the scale"


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


@dataclass(frozen=True)
class RatingRule:
    """Why ratings are refused, by which column, and whether a row is one of them."""

    reason: str
    column: str
    broken: pl.Expr


def rejected_rows(rows: pl.DataFrame, table: str, file: str) -> pl.DataFrame:
    """`rows` (columns line, reason, text) as rows of the table `rejected_rows`: what `table` did not take of `file`."""
    text = pl.col("text").cast(pl.String).str.slice(0, MAX_TEXT)
    return rows.select(
        pl.lit(table).alias("table"),
        pl.lit(file).alias("file"),
        pl.col("line").cast(pl.Int64),
        pl.col("reason").cast(pl.String),
        text,
    )


def refused_ratings(rejected: pl.DataFrame) -> pl.Series:
    """Reasons of the refused ratings among the rows of the table `rejected_rows`: (n,) text."""
    return rejected.filter(pl.col("table") == RATINGS)["reason"]


def bad_ratings(reasons: pl.Series, is_implicit: bool) -> int:
    """How many refused ratings, given by their `reasons` (n,), speak against a file.

    A log of clicks or purchases repeats pairs by its nature: with implicit feedback repetitions do not count.
    """
    repeated = reasons.is_in(list(REPEATED.values())) if is_implicit else pl.Series([False])
    return reasons.count() - int(repeated.sum())


def rating_rules(scale: Sequence[float]) -> list[RatingRule]:
    """What makes a rating unusable by itself, column by column, for rows as `judge_ratings` takes them.

    The first rule that is broken gives the reason.
    """
    number = pl.col("rating").is_finite().fill_null(False)
    allowed = pl.Series([float(value) for value in scale])
    return [
        RatingRule("empty user id", "user_id", pl.col("user_id").fill_null("") == ""),
        RatingRule("empty item id", "item_id", pl.col("item_id").fill_null("") == ""),
        RatingRule(NOT_A_NUMBER, "rating", ~number),
        RatingRule(OFF_SCALE, "rating", number & ~pl.col("rating").is_in(allowed.implode())),
        RatingRule("impossible timestamp", "timestamp", ~pl.col("timestamp").is_between(0, LATEST_S).fill_null(False)),
    ]


def judge_ratings(
    rows: pl.DataFrame,
    scale: Sequence[float],
    item_ids: pl.Series | None,
    has_times: bool = True,
    repeats: Repeats = "last",
) -> pl.DataFrame:
    """`rows` with a column `reason`: null where the rating is good.

    `rows` has user_id, item_id (text), rating, timestamp (float, null where not a number), line. `item_ids` are the
    known items; None knows all. Without times no timestamp is judged. `repeats` says which of several ratings of a
    user and item stays.
    """
    rules = [rule for rule in rating_rules(scale) if has_times or rule.column != "timestamp"]
    if item_ids is not None:
        rules.append(RatingRule(UNKNOWN_ITEM, "item_id", ~pl.col("item_id").is_in(item_ids.implode())))
    reason = pl.lit(None, pl.String)
    for rule in reversed(rules):
        reason = pl.when(rule.broken).then(pl.lit(rule.reason)).otherwise(reason)
    judged = rows.with_columns(reason.alias("reason"))
    repeated = _repeated_lines(judged.filter(pl.col("reason").is_null()), repeats)
    if repeated.is_empty():
        return judged
    is_repeated = pl.col("line").is_in(repeated.implode())
    return judged.with_columns(pl.when(is_repeated).then(pl.lit(REPEATED[repeats])).otherwise("reason").alias("reason"))


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


def _repeated_lines(good: pl.DataFrame, repeats: Repeats) -> pl.Series:
    """Lines of ratings that another one of the same user and item replaces."""
    suspects, pair = _maybe_repeated(good), pl.struct("user_id", "item_id")
    pairs = suspects.filter(pair.is_duplicated()).sort("timestamp", "line")
    return pairs.filter(~(pair.is_last_distinct() if repeats == "last" else pair.is_first_distinct()))["line"]


def _maybe_repeated(good: pl.DataFrame) -> pl.DataFrame:
    """The rows whose pair has the same hash as another: all that are repeated, and by chance hardly any more.

    Sorting numbers takes a fraction of the time and memory of looking at the ids themselves.
    """
    hashes = good.select(pl.struct("user_id", "item_id").hash()).to_series()
    ordered = np.sort(hashes.to_numpy())
    twice = pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    return good.filter(hashes.is_in(twice.implode())) if len(twice) else good.clear()
