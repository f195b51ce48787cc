"""The table `recommendations`: what is read of it, and how it is exported."""

from __future__ import annotations

import polars as pl

WITH_ITEM, BEFORE_ITEM = "with this item", "before this item"
"""Values of the column `fit`."""


def for_user(frame: pl.DataFrame, user_id: str, n: int) -> pl.DataFrame:
    """The first `n` rows of a user, the best first; no rows for a user that has none."""
    return frame.filter((pl.col("user_id") == user_id) & (pl.col("rank") <= n)).sort("rank")
