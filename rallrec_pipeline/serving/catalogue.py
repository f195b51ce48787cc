"""Items, users and ratings as the pipeline knows them, found by id."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun


class ByUser:
    """Rows of a table by user, in their order, found without a look at the others."""

    def __init__(self, frame: pl.DataFrame) -> None:
        runs = frame.sort("user_id", maintain_order=True)
        self.frame = runs
        counts = runs["user_id"].rle().struct.unnest()
        lengths = counts["len"].to_list()
        starts = [end - length for end, length in zip(accumulate(lengths), lengths, strict=True)]
        self._places = dict(zip(counts["value"].to_list(), zip(starts, lengths, strict=True), strict=True))

    def rows(self, user_id: str) -> pl.DataFrame:
        """The rows of a user; none for one who is not known."""
        return self.frame.slice(*self._places.get(user_id, (0, 0)))

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._places


@dataclass(frozen=True)
class Catalogue:
    """What a request may name.

    `items` has the core's items first, in the order of `core_items` and so of vectors, then all others; `place` is the
    row of an id. `ratings` are core interactions, in the order that histories are taken in.
    """

    spec: DatasetSpec
    items: pl.DataFrame
    place: dict[str, int]
    core_items: int
    """How many of `items` are in the core."""
    users: ByUser
    ratings: ByUser

    @classmethod
    def read(cls, run: StageRun) -> Catalogue:
        """From the tables of a run's inputs."""
        core, every = run.read(tables.CORE_ITEMS), run.read(tables.ITEMS)
        items = pl.concat([core, every.join(core, on="item_id", how="anti", maintain_order="left")], how="diagonal")
        return cls(
            run.spec,
            items,
            {item: place for place, item in enumerate(items["item_id"])},
            core.height,
            ByUser(run.read(tables.USERS)),
            ByUser(run.read(tables.CORE_INTERACTIONS).select("user_id", "item_id", "rating")),
        )
