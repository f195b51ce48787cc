"""Sampled negatives for implicit feedback."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.order import id_codes
from rallrec_pipeline.datasets.sequences import codes_in

MAX_ROUNDS = 50


def with_negatives(targets: pl.DataFrame, core: pl.DataFrame, per_target: int, seed: int) -> pl.DataFrame:
    """`targets`, each followed by `per_target` rows with another item and rating 0.

    Items are drawn uniformly from those of `core`, never one that the user has touched at any time, never the same
    twice for a target. A user who has touched nearly all items gets fewer.
    """
    items = core["item_id"].unique().to_frame()
    items = items[np.argsort(id_codes(items["item_id"]))]
    users = targets["user_id"].unique(maintain_order=True)
    touched = _pairs(core, users, items["item_id"])
    user = codes_in(targets["user_id"], users).astype(np.int64)  # products with item codes follow
    drawn = _draw(user, touched, items.height, per_target, np.random.default_rng([seed, 2]))
    kept = drawn.ravel() >= 0
    rows = targets[np.repeat(np.arange(targets.height), per_target)[kept]]
    negatives = rows.with_columns(
        items["item_id"][drawn.ravel()[kept].astype(np.uint32)].alias("item_id"),
        pl.lit(0.0, pl.Float32).alias("rating"),
    )
    order = np.concatenate([np.arange(targets.height) * (per_target + 1), _places(targets.height, per_target)[kept]])
    return pl.concat([targets, negatives])[np.argsort(order, kind="stable")]


def _draw(
    user: NDArray[np.int64], touched: NDArray[np.int64], items: int, per_target: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Item codes (targets, per_target); -1 where none was found."""
    drawn = np.full((len(user), per_target), -1, np.int64)
    for column in range(per_target):
        open_rows = np.arange(len(user))
        for _ in range(MAX_ROUNDS):
            guess = rng.integers(0, items, len(open_rows))
            taken = np.isin(user[open_rows] * items + guess, touched, assume_unique=False)
            taken |= (drawn[open_rows] == guess[:, None]).any(1)
            drawn[open_rows[~taken], column] = guess[~taken]
            open_rows = open_rows[taken]
            if not len(open_rows):
                break
    return drawn


def _pairs(core: pl.DataFrame, users: pl.Series, items: pl.Series) -> NDArray[np.int64]:
    """Codes of (user, item) pairs in `core`, for the users asked about."""
    rows = core.filter(pl.col("user_id").is_in(users.implode()))
    return codes_in(rows["user_id"], users).astype(np.int64) * len(items) + codes_in(rows["item_id"], items)


def _places(targets: int, per_target: int) -> NDArray[np.int64]:
    """Where the negatives go, among targets that stand `per_target + 1` apart."""
    return (np.arange(targets)[:, None] * (per_target + 1) + np.arange(1, per_target + 1)).ravel()
