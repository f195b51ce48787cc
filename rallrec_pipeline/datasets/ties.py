"""Ratings of one time: among them the order is that of the ids, whatever the user did first."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.order import exact_times
from rallrec_pipeline.datasets.tables import IDS

NEAR = 1000  # samples at the end of a split among which one is observed: each is followed by its sampled negatives
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd and without a pattern: sums with times hardly ever meet by chance


def equal_time_share(ratings: pl.DataFrame) -> float | None:
    """Share of the neighbouring ratings of a user, in time, that have the same time; None where there are none.

    `ratings` has user_id, timestamp and perhaps microsecond, in any order; rows without a time are left aside.
    """
    times = exact_times(ratings)
    is_timed = times.is_not_null().to_numpy()
    codes = ratings["user_id"].cast(IDS).to_physical().to_numpy()[is_timed]
    neighbours = len(codes) - int(np.count_nonzero(np.bincount(codes)))
    # Equal times of a user are neighbours, so that each distinct one has one neighbour less than ratings. Numbers sort
    # in a fraction of the time and memory that looking at the ids themselves takes.
    moments = codes.astype(np.uint64) * SPREAD + times.drop_nulls().to_numpy().astype(np.uint64)
    moments.sort()
    return int((moments[1:] == moments[:-1]).sum()) / neighbours if neighbours else None


def tied_borders(samples: pl.DataFrame, core: pl.DataFrame) -> list[tuple[str, str, int]]:
    """The borders of a split in time that fall between ratings of one time: (split before, split after, UTC second).

    `samples` (user_id, item_id, split) are in the order of time, `core` has the times of their ratings; sampled
    negatives have none. A border is where one split ends and the next begins.
    """
    pair = ["user_id", "item_id"]
    splits = samples.select("split", *pair).group_by("split", maintain_order=True)
    ends = [splits.head(NEAR), splits.tail(NEAR)]  # to give all samples their times takes gigabytes
    wanted = pl.concat(end.select(pair) for end in ends).unique()
    times = core.filter(pl.col("user_id").is_in(wanted["user_id"].implode())).join(wanted, on=pair, how="semi")
    times = times.select(*pair, "timestamp", exact_times(times).alias("time"))
    timed = [end.join(times, on=pair, maintain_order="left").group_by("split", maintain_order=True) for end in ends]
    first, last = timed[0].first(), timed[1].last()
    return [
        (before["split"], after["split"], after["timestamp"])
        for before, after in zip(last[:-1].iter_rows(named=True), first[1:].iter_rows(named=True), strict=True)
        if after["time"] is not None and before["time"] == after["time"]
    ]
