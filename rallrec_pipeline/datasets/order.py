"""The orders of interactions: global (time, then user, then item), and within each user."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import numpy as np
import polars as pl
from numpy.typing import NDArray


def id_order(column: str) -> list[pl.Expr]:
    """Sort keys of an id column: length, then text; the numeric order for integer ids."""
    text = pl.col(column).cast(pl.String)
    return [text.str.len_bytes(), text]


def exact_times(interactions: pl.DataFrame) -> pl.Series:
    """UTC microseconds where `interactions` has them, as the raw table has, else seconds; null without a time: (n,)."""
    if "microsecond" not in interactions.columns:
        return interactions["timestamp"]
    return interactions.select(pl.col("timestamp") * 1_000_000 + pl.col("microsecond")).to_series()


def second_of(day: date) -> int:
    """The first second of a day in UTC, as timestamps count."""
    return int(datetime.combine(day, time(), UTC).timestamp())


def take(rows: pl.DataFrame, places: NDArray[np.uint32]) -> pl.DataFrame:
    """The rows at `places`, column by column: text out of many chunks takes ten times as long, all at once a copy."""
    order = pl.Series(places)
    return pl.DataFrame([column.rechunk().gather(order) for column in rows])


def global_order(times: pl.Series, users: NDArray[np.uint32], items: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Rows in global order, given the codes of their users and items: (n,) places."""
    keys = pl.DataFrame([times.alias("time"), pl.Series("user", users), pl.Series("item", items)])
    return keys.select(pl.arg_sort_by("time", "user", "item")).to_series().to_numpy()


def in_user_order(interactions: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Sorted by user, then time; ratings without a time, or of the same one, in an order drawn from `seed`.

    The order does not depend on that of the rows. They come without times: a split by user, or of the last ratings of
    each, compares the ratings of one user, which the order does, and never those of two.
    """
    users, items = id_codes(interactions["user_id"]), id_codes(interactions["item_id"])
    draws = np.empty(interactions.height)
    draws[np.lexsort((items, users))] = np.random.default_rng(seed).random(interactions.height)
    times = exact_times(interactions).alias("time")
    keys = pl.DataFrame([pl.Series("user", users), times, pl.Series("draw", draws)])
    order = keys.select(pl.arg_sort_by("user", "time", "draw")).to_series().to_numpy()
    return take(interactions, order).with_columns(pl.lit(None, pl.Int64).alias("timestamp"))


def id_codes(ids: pl.Series) -> NDArray[np.uint32]:
    """Place of each id among all in `id_order`, so that ids sort as numbers do: (n,) uint32."""
    name = ids.name
    known = ids.unique().to_frame().sort(*id_order(name)).with_row_index("code")
    if ids.dtype == pl.Categorical and not ids.null_count():
        places = known[name].to_physical().to_numpy()
        codes = np.zeros(int(places.max(initial=0)) + 1, np.uint32)
        codes[places] = known["code"].to_numpy()
        return np.asarray(codes[ids.to_physical().to_numpy()])
    joined = ids.to_frame().join(known, on=name, how="left", maintain_order="left", nulls_equal=True)
    return joined["code"].to_numpy()
