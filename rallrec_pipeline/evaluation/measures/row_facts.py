"""What is known of a test row before it is predicted: whose it is, and how much was seen of its item and user."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.datasets.histories import training_interactions


def row_facts(core: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """A row for each test sample: `sample_id`, `user_id`, `item_id`, `history_length`, `item_train_count`.

    The last is the number of the item's training interactions in `core`.
    """
    counts = training_interactions(core, samples).group_by("item_id").agg(pl.len().alias("item_train_count"))
    rows = samples.filter(pl.col("split") == "test").select("sample_id", "user_id", "item_id", "history_length")
    return rows.join(counts, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("item_train_count").fill_null(0)
    )
