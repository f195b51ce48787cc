"""The global order of interactions: time, then user, then item."""

from __future__ import annotations

import polars as pl


def id_order(column: str) -> list[pl.Expr]:
    """Sort keys of an id column: length, then text; the numeric order for integer ids."""
    return [pl.col(column).str.len_bytes(), pl.col(column)]


def in_global_order(interactions: pl.DataFrame) -> pl.DataFrame:
    """Sorted by (timestamp, user, item)."""
    return interactions.sort("timestamp", *id_order("user_id"), *id_order("item_id"))
