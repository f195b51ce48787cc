"""Simple statistics of each sample's item and user, safe in time: none knows its own answer or the future."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.histories import training_interactions

SHRINKAGE = 5.0  # pseudo-ratings at the global mean: one rating is not yet an opinion
RECENT = 10


def rating_statistics(core: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """One row per sample, in order: item_mean, item_count, user_mean, user_count, recent_mean, global_mean.

    Item figures of a training sample are of the training ratings before it (split by user: of all other training
    ratings), those of other samples of all training ratings. User figures and the mean of the last ten are
    of the sample's own history, which every method is given. Means are shrunk to the global mean of the training
    ratings. With sampled negatives, item figures are of the training samples: the share of an item's that happened.
    """
    sampled = samples.join(core, on=["user_id", "item_id"], how="anti").height > 0
    item = _item_sums_of_samples(samples) if sampled else _item_sums_of_ratings(core, samples)
    overall = item.overall
    rows = item.rows.join(_user_sums(core), on=["user_id", "item_id"], how="left", maintain_order="left")
    user_sum = pl.col("history_length") if sampled else pl.col("user_sum")
    recent = pl.when(pl.col("history_length") > 0).then(1.0) if sampled else pl.col("recent")
    shrunk_item = (pl.col("item_sum") + SHRINKAGE * overall) / (pl.col("item_count") + SHRINKAGE)
    shrunk_user = (user_sum + SHRINKAGE * overall) / (pl.col("history_length") + SHRINKAGE)
    return rows.select(
        "sample_id",
        shrunk_item.cast(pl.Float32).alias("item_mean"),
        pl.col("item_count").cast(pl.Int32),
        shrunk_user.cast(pl.Float32).alias("user_mean"),
        pl.col("history_length").cast(pl.Int32).alias("user_count"),
        recent.fill_null(overall).cast(pl.Float32).alias("recent_mean"),
        pl.lit(overall, pl.Float32).alias("global_mean"),
    )


@dataclass(frozen=True)
class _ItemSums:
    """`samples` with item_sum and item_count, and the mean of all that was counted."""

    rows: pl.DataFrame
    overall: float


def _item_sums_of_ratings(core: pl.DataFrame, samples: pl.DataFrame) -> _ItemSums:
    training = training_interactions(core, samples)
    if core["timestamp"].null_count():
        pair = ["user_id", "item_id"]
        marks = training.select(*pair, pl.lit(True).alias("seen"))
        seen = core.join(marks, on=pair, how="left", maintain_order="left")["seen"].fill_null(False)
        events = _known(core, seen).with_columns(_all_others("known"), _all_others("counts"))
    else:
        seen = pl.int_range(core.height, eager=True) < training.height
        events = _known(core, seen).with_columns(_earlier("known"), _earlier("counts"))
    sums = events.select("user_id", "item_id", pl.col("known").alias("item_sum"), pl.col("counts").alias("item_count"))
    rows = samples.join(sums, on=["user_id", "item_id"], how="left", maintain_order="left")
    return _ItemSums(rows, _mean(training["rating"]))


def _item_sums_of_samples(samples: pl.DataFrame) -> _ItemSums:
    training = samples["split"] == "train"
    events = _known(samples, training).with_columns(_earlier("known"), _earlier("counts"))
    rows = samples.with_columns(events["known"].alias("item_sum"), events["counts"].alias("item_count"))
    return _ItemSums(rows, _mean(samples.filter(training)["rating"]))


def _known(events: pl.DataFrame, seen: pl.Series) -> pl.DataFrame:
    """`events` with the rating (`known`) and a one (`counts`) where it may be looked at, else zeros."""
    rating = pl.when(seen).then(pl.col("rating").cast(pl.Float64)).otherwise(0.0)
    return events.with_columns(rating.alias("known"), seen.cast(pl.Int32).alias("counts"))


def _earlier(column: str) -> pl.Expr:
    return (pl.col(column).cum_sum() - pl.col(column)).over("item_id")


def _all_others(column: str) -> pl.Expr:
    return pl.col(column).sum().over("item_id") - pl.col(column)


def _user_sums(core: pl.DataFrame) -> pl.DataFrame:
    """Of each interaction: the sum of its user's earlier ratings, and the mean of the last ten of them."""
    rating = pl.col("rating").cast(pl.Float64)
    return core.select(
        "user_id",
        "item_id",
        (rating.cum_sum() - rating).over("user_id").alias("user_sum"),
        rating.shift(1).rolling_mean(RECENT, min_samples=1).over("user_id").alias("recent"),
    )


def _mean(ratings: pl.Series) -> float:
    return float(ratings.cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
