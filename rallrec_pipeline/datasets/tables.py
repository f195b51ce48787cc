"""What every reader gives, and the rules that hold for ratings of any format."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.catalog import LabelSpec

REJECTED = {"file": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String}


@dataclass(frozen=True)
class RawTables:
    """Canonical tables of one dataset, and the raw rows that none of them took."""

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    rejected: pl.DataFrame


def rejected_rows(rows: pl.DataFrame, file: str) -> pl.DataFrame:
    """`rows` (columns line, reason, text) as rows of the table `rejected_rows`."""
    return rows.select(pl.lit(file).alias("file"), *(pl.col(c).cast(t) for c, t in REJECTED.items() if c != "file"))


def judge_ratings(rows: pl.DataFrame, label: LabelSpec, item_ids: pl.Series) -> pl.DataFrame:
    """`rows` with a column `reason`: null where the rating is good.

    `rows` has user_id, item_id (text), rating, timestamp (float, null where not a number), line. Policies: an
    empty id, a rating that is no number or no value of the scale, an impossible time and an unknown item are refused;
    of several ratings of one item by one user the latest stays.
    """
    reason = (
        pl.when(pl.col("user_id").fill_null("") == "").then(pl.lit("empty user id"))
        .when(pl.col("item_id").fill_null("") == "").then(pl.lit("empty item id"))
        .when(~pl.col("rating").is_finite().fill_null(False)).then(pl.lit("rating is not a number"))
        .when(~pl.col("rating").is_in([float(value) for value in label.scale])).then(pl.lit("rating is off the scale"))
        .when(~pl.col("timestamp").is_between(0, 2**53).fill_null(False)).then(pl.lit("impossible timestamp"))
        .when(~pl.col("item_id").is_in(item_ids.implode())).then(pl.lit("unknown item"))
    )  # fmt: skip
    judged = rows.with_columns(reason.alias("reason"))
    latest = (
        judged.filter(pl.col("reason").is_null())
        .sort("timestamp", "line")
        .unique(["user_id", "item_id"], keep="last")
        .select("line", pl.lit(True).alias("latest"))
    )
    repeated = pl.col("reason").is_null() & pl.col("latest").is_null()
    return judged.join(latest, on="line", how="left", maintain_order="left").with_columns(
        pl.when(repeated).then(pl.lit("repeated rating, a later one stays")).otherwise("reason").alias("reason")
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
