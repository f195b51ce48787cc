"""Ratings of one time: among them the order is that of the ids, whatever the user did first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.order import exact_times


def equal_time_share(ratings: pl.DataFrame) -> float | None:
    """Share of the neighbouring ratings of a user, in time, that have the same time; None where there are none.

    `ratings` has user_id, timestamp and perhaps microsecond, in any order; rows without a time are left aside.
    """
    timed = pl.DataFrame([ratings["user_id"], exact_times(ratings).alias("time")]).drop_nulls("time")
    neighbours = timed.height - timed["user_id"].n_unique()
    # Equal times of a user are neighbours, so that each distinct one has one neighbour less than ratings. Numbers sort
    # in a fraction of the time and memory that looking at the ids themselves takes.
    moments = np.sort(timed.select(pl.struct("user_id", "time").hash()).to_series().to_numpy())
    return int((moments[1:] == moments[:-1]).sum()) / neighbours if neighbours else None


def tied_borders(samples: pl.DataFrame, core: pl.DataFrame) -> list[tuple[str, str, int]]:
    """The borders of a split in time that fall between ratings of one time: (split before, split after, UTC second).

    `samples` (user_id, item_id, split) are in the order of time, `core` has the times of their ratings; sampled
    negatives have none. A border is where one split ends and the next begins.
    """
    pair = ["user_id", "item_id"]
    times = core.select(*pair, "timestamp").with_columns(exact_times(core).alias("time"))
    timed = samples.select(*pair, "split").join(times, on=pair, maintain_order="left")
    ends = timed.group_by("split", maintain_order=True).agg(
        pl.col("time").last().alias("last"), pl.col("time", "timestamp").first()
    )
    return [
        (before["split"], after["split"], after["timestamp"])
        for before, after in pairwise(ends.iter_rows(named=True))
        if after["time"] is not None and before["last"] == after["time"]
    ]
