"""Simple statistics of each sample's item and user, safe in time: none knows its own answer or the future."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.datasets.histories import training_interactions

SHRINKAGE = 5.0  # pseudo-ratings at the global mean: one rating is not yet an opinion
RECENT = 10


def rating_statistics(core: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """One row per sample, in order: item_mean, item_count, user_mean, user_count, recent_mean, global_mean.

    Item figures of a training sample are of the training ratings before it, those of other samples of all
    training ratings. User figures and the mean of the last ten are of the sample's own history, which every
    method is given. Means are shrunk to the global mean of the training ratings.
    """
    training = training_interactions(core, samples)
    overall = float(training["rating"].cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
    rating = pl.col("rating").cast(pl.Float64)
    in_training = pl.int_range(pl.len()) < training.height
    known = pl.when(in_training).then(rating).otherwise(0.0)
    before = core.with_columns(known.alias("known"), in_training.cast(pl.Int32).alias("counts")).with_columns(
        (pl.col("known").cum_sum() - pl.col("known")).over("item_id").alias("item_sum"),
        (pl.col("counts").cum_sum() - pl.col("counts")).over("item_id").alias("item_count"),
        (rating.cum_sum() - rating).over("user_id").alias("user_sum"),
        rating.shift(1).rolling_mean(RECENT, min_samples=1).over("user_id").alias("recent"),
    )
    figures = before.select("user_id", "item_id", "item_sum", "item_count", "user_sum", "recent")
    rows = samples.join(figures, on=["user_id", "item_id"], how="left", maintain_order="left")
    shrunk_item = (pl.col("item_sum") + SHRINKAGE * overall) / (pl.col("item_count") + SHRINKAGE)
    shrunk_user = (pl.col("user_sum") + SHRINKAGE * overall) / (pl.col("history_length") + SHRINKAGE)
    return rows.select(
        "sample_id",
        shrunk_item.cast(pl.Float32).alias("item_mean"),
        pl.col("item_count").cast(pl.Int32),
        shrunk_user.cast(pl.Float32).alias("user_mean"),
        pl.col("history_length").cast(pl.Int32).alias("user_count"),
        pl.col("recent").fill_null(overall).cast(pl.Float32).alias("recent_mean"),
        pl.lit(overall, pl.Float32).alias("global_mean"),
    )
