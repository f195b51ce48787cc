"""k-core: users and items with too few (or too many) ratings leave, until nothing changes."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.order import id_order, in_global_order


def k_core(
    interactions: pl.DataFrame,
    user_core: int,
    item_core: int,
    user_cap: int | None = None,
    item_cap: int | None = None,
    item_limit: int | None = None,
) -> pl.DataFrame:
    """The largest subset where each user has at least `user_core` ratings and each item at least `item_core`.

    Users and items above a cap leave too, in the same rounds (as the published code does), until nothing changes.
    With `item_limit` only that many most rated items stay afterwards (as the published code does, without
    iterating again). The result is in global order and independent of the order of the input.
    """
    rows = in_global_order(interactions)
    users, items = _codes(rows["user_id"]), _codes(rows["item_id"])
    kept = np.arange(rows.height)
    while len(kept):
        good = _within(users[kept], user_core, user_cap) & _within(items[kept], item_core, item_cap)
        if good.all():
            break
        kept = kept[good]
    core = rows[kept]
    return core if item_limit is None else _most_rated(core, item_limit)


def _codes(ids: pl.Series) -> NDArray[np.int64]:
    return ids.rank("dense").to_numpy().astype(np.int64) - 1 if len(ids) else np.zeros(0, np.int64)


def _within(codes: NDArray[np.int64], least: int, most: int | None) -> NDArray[np.bool_]:
    counts = np.bincount(codes)[codes]
    return (counts >= least) & (counts <= (most if most is not None else len(codes)))


def _most_rated(core: pl.DataFrame, limit: int) -> pl.DataFrame:
    ranked = core.group_by("item_id").len().sort(-pl.col("len").cast(pl.Int64), *id_order("item_id"))
    return core.join(ranked.head(limit), on="item_id", how="semi", maintain_order="left")
