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
from numpy.typing import NDArray

Repeats = Literal["last", "first"]
"""Which of several ratings of an item by a user stays."""

REFUSED = {"line": pl.Int64, "reason": pl.String, "text": pl.String}  # columns of the rows that a reader refuses
RATINGS = "interactions"  # the table whose refused rows are counted
IDS = pl.Categorical(pl.Categories("rallrec.ids"))  # of many rows: a quarter of the memory of the ids as text
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
        RatingRule("empty user id", "user_id", _is_empty("user_id")),
        RatingRule("empty item id", "item_id", _is_empty("item_id")),
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
    """`rows` with a column `reason` (an Enum): null where the rating is good.

    `rows` has user_id, item_id (text, or IDS), rating, timestamp (float, null where not a number), line. `item_ids`
    are the known items; None knows all. Without times no timestamp is judged. `repeats` says which of several ratings
    of a user and item stays.
    """
    rules = [rule for rule in rating_rules(scale) if has_times or rule.column != "timestamp"]
    if item_ids is not None:
        known = item_ids.cast(rows["item_id"].dtype)
        rules.append(RatingRule(UNKNOWN_ITEM, "item_id", ~pl.col("item_id").is_in(known.implode())))
    reasons = pl.Enum([*(rule.reason for rule in rules), *REPEATED.values()])
    reason = pl.lit(None, reasons)
    for rule in reversed(rules):
        reason = pl.when(rule.broken).then(pl.lit(rule.reason, reasons)).otherwise(reason)
    judged = rows.with_columns(reason.alias("reason"))
    repeated = _repeated_lines(good_rows(judged), repeats)
    if repeated.is_empty():
        return judged
    is_repeated, what = pl.col("line").is_in(repeated.implode()), pl.lit(REPEATED[repeats], reasons)
    return judged.with_columns(pl.when(is_repeated).then(what).otherwise("reason").alias("reason"))


def good_rows(judged: pl.DataFrame) -> pl.DataFrame:
    """The rows without a `reason`; where that is all of them nothing is copied."""
    return judged if judged["reason"].null_count() == judged.height else judged.filter(pl.col("reason").is_null())


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


def _is_empty(key: str) -> pl.Expr:
    return pl.col(key).is_null() | (pl.col(key) == "")


def _repeated_lines(good: pl.DataFrame, repeats: Repeats) -> pl.Series:
    """Lines of ratings that another one of the same user and item replaces."""
    pairs = pl.Series("pair", _pairs(good))
    ordered = np.sort(pairs.to_numpy())  # numbers: a fraction of the time and memory of the ids themselves
    twice = pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    if twice.is_empty():
        return good["line"].clear()
    repeated = good.select("line", "timestamp", pairs).filter(pairs.is_in(twice.implode())).sort("timestamp", "line")
    pair = pl.col("pair")
    return repeated.filter(~(pair.is_last_distinct() if repeats == "last" else pair.is_first_distinct()))["line"]


def _pairs(good: pl.DataFrame) -> NDArray[np.uint64]:
    """A number for each pair of user and item: (n,)."""
    users, items = (good[key].cast(IDS).to_physical().to_numpy().astype(np.uint64) for key in ("user_id", "item_id"))
    return np.asarray(users << np.uint64(32) | items)
