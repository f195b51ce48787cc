"""The core of a dataset: what its protocol leaves out, and the k-core, the fixed point of bounds on users and items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.order import exact_times, global_order, id_codes, id_order, second_of, take
from rallrec_pipeline.datasets.protocol_spec import CoreSpec, ProtocolSpec


@dataclass(frozen=True)
class Rule:
    """What a protocol leaves out before its core, in words, and the ratings that stay."""

    words: str
    ratings: pl.LazyFrame


def core_of(interactions: pl.DataFrame, items: pl.DataFrame, protocol: ProtocolSpec) -> pl.DataFrame:
    """The interactions that `protocol` keeps, in global order; `items` is the catalogue."""
    rules = list(rules_before_core(interactions, items, protocol))
    return k_core(
        rules[-1].ratings.collect() if rules else interactions,
        protocol.user_core,
        protocol.item_core,
        protocol.user_cap,
        protocol.item_cap,
        protocol.item_limit,
        protocol.item_limit_first,
    )


def rules_before_core(interactions: pl.DataFrame, items: pl.DataFrame, protocol: ProtocolSpec) -> Iterator[Rule]:
    """What `protocol` leaves out before its core, rule by rule, each after those before it."""
    rows = interactions.lazy()
    if protocol.selection:
        rows = rows.join(selected_items(interactions, protocol.selection).lazy(), on="item_id", how="semi")
        yield Rule(f"left out: items outside the selection ({core_in_words(protocol.selection)})", rows)
    if protocol.drop_ratings:
        dropped = pl.Series(protocol.drop_ratings, dtype=pl.Float32)  # as ratings are stored
        rows = rows.filter(~pl.col("rating").is_in(dropped.implode()))
        yield Rule(f"left out: ratings of {', '.join(f'{value:g}' for value in protocol.drop_ratings)}", rows)
    if protocol.dates and protocol.dates.train:
        rows = rows.filter(pl.col("timestamp") >= second_of(protocol.dates.train))
        yield Rule(f"left out: ratings before {protocol.dates.train}", rows)
    if protocol.dates and protocol.dates.end:
        rows = rows.filter(pl.col("timestamp") < second_of(protocol.dates.end))
        yield Rule(f"left out: ratings from {protocol.dates.end} on", rows)
    if protocol.require:
        whole = items.lazy().filter(pl.all_horizontal(pl.col(name) != "" for name in protocol.require))
        rows = rows.join(whole, on="item_id", how="semi")
        yield Rule(f"left out: items without {' and '.join(protocol.require)}", rows)


def selected_items(interactions: pl.DataFrame, selection: CoreSpec) -> pl.DataFrame:
    """The items of the core that `selection` makes of all `interactions`: one column, item_id."""
    bounds = selection.user_core, selection.item_core, selection.user_cap, selection.item_cap
    return k_core(interactions, *bounds).select("item_id").unique()


def core_in_words(core: CoreSpec) -> str:
    """The bounds of `core`, to be read."""

    def bounds(least: int, most: int | None) -> str:
        return f"{least} to {most}" if most is not None else f"{least} or more"

    users, items = bounds(core.user_core, core.user_cap), bounds(core.item_core, core.item_cap)
    return f"users with {users} ratings, items with {items}"


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
    order = global_order(exact_times(rows).gather(kept), users, items)
    core = take(rows, kept[order])  # only now: no row is moved twice
    return core if item_limit is None or item_limit_first else _most_rated(core, item_limit)


def _within(codes: NDArray[np.uint32], least: int, most: int | None) -> NDArray[np.bool_]:
    counts = np.bincount(codes)
    good = (counts >= least) & (counts <= (most if most is not None else len(codes)))
    return np.asarray(good[codes], np.bool_)


def _most_rated(core: pl.DataFrame, limit: int) -> pl.DataFrame:
    ranked = core.group_by("item_id").len().sort(-pl.col("len").cast(pl.Int64), *id_order("item_id"))
    return core.join(ranked.head(min(limit, ranked.height)), on="item_id", how="semi", maintain_order="left")
