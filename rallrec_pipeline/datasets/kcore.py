"""k-core: users and items with too few (or too many) ratings leave, until nothing changes."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.order import global_order, id_codes, id_order, take
from rallrec_pipeline.datasets.spec import ProtocolSpec


def core_of(interactions: pl.DataFrame, items: pl.DataFrame, protocol: ProtocolSpec) -> pl.DataFrame:
    """The interactions that `protocol` keeps, in global order; `items` is the catalogue."""
    rows = with_required_fields(with_kept_ratings(interactions.lazy(), protocol), items.lazy(), protocol).collect()
    return k_core(
        rows,
        protocol.user_core,
        protocol.item_core,
        protocol.user_cap,
        protocol.item_cap,
        protocol.item_limit,
        protocol.item_limit_first,
    )


def with_kept_ratings(interactions: pl.LazyFrame, protocol: ProtocolSpec) -> pl.LazyFrame:
    """Without the ratings that `protocol` drops; compared as float32, as which ratings are stored."""
    dropped = pl.Series(protocol.drop_ratings, dtype=pl.Float32)
    return interactions.filter(~pl.col("rating").is_in(dropped.implode()))


def with_required_fields(interactions: pl.LazyFrame, items: pl.LazyFrame, protocol: ProtocolSpec) -> pl.LazyFrame:
    """Without ratings of items that lack a field which `protocol` requires."""
    if not protocol.require:
        return interactions
    whole = items.filter(pl.all_horizontal(pl.col(name) != "" for name in protocol.require))
    return interactions.join(whole, on="item_id", how="semi")


def k_core(
    interactions: pl.DataFrame,
    user_core: int,
    item_core: int,
    user_cap: int | None = None,
    item_cap: int | None = None,
    item_limit: int | None = None,
    item_limit_first: bool = False,
) -> pl.DataFrame:
    """The largest subset where each user has at least `user_core` ratings and each item at least `item_core`.

    Users and items above a cap leave too. A round takes users out, counts anew and takes items out, as the published
    code does: without caps the order does not matter, with caps it does.
    With `item_limit` only that many most rated items stay afterwards (as the published code does, without
    iterating again), or beforehand with `item_limit_first`. The result is in global order and independent of the
    order of the input.
    """
    rows = interactions
    if item_limit is not None and item_limit_first:
        rows = _most_rated(rows, item_limit)
    users, items = id_codes(rows["user_id"]), id_codes(rows["item_id"])
    kept = np.arange(rows.height, dtype=np.uint32)
    before = -1
    while before != len(kept):
        before = len(kept)
        for codes, least, most in ((0, user_core, user_cap), (1, item_core, item_cap)):
            good = _within((users, items)[codes], least, most)
            kept, users, items = kept[good], users[good], items[good]
    order = global_order(rows["timestamp"].gather(kept), users, items)
    core = take(rows, kept[order])  # only now: no row is moved twice
    return core if item_limit is None or item_limit_first else _most_rated(core, item_limit)


def _within(codes: NDArray[np.uint32], least: int, most: int | None) -> NDArray[np.bool_]:
    counts = np.bincount(codes)
    good = (counts >= least) & (counts <= (most if most is not None else len(codes)))
    return np.asarray(good[codes], np.bool_)


def _most_rated(core: pl.DataFrame, limit: int) -> pl.DataFrame:
    ranked = core.group_by("item_id").len().sort(-pl.col("len").cast(pl.Int64), *id_order("item_id"))
    return core.join(ranked.head(limit), on="item_id", how="semi", maintain_order="left")
