"""Who asks for recommendations: users with what they have rated up to a moment, of which nothing later is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import Rows
from rallrec_pipeline.datasets.sequences import UserSequences

Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
BLOCK_CELLS = 2**23  # scores of users by items that are held at once, 32 MB a source


@dataclass(frozen=True)
class Visits:
    """n moments at which users ask: codes of `users`, and how many ratings each had given by then."""

    users: Codes
    lengths: Ints

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, chosen: Flags | Ints | slice) -> Visits:
        return Visits(self.users[chosen], self.lengths[chosen])

    def rows(self, targets: Codes) -> Rows:
        """The rows of `targets` (n, c), visit by visit."""
        times = targets.shape[1]
        return Rows(np.repeat(self.users, times), np.repeat(self.lengths, times), targets.ravel())

    def blocks(self, n_items: int) -> Iterator[slice]:
        """Slices of so many visits that their scores of `n_items` items fit into `BLOCK_CELLS`."""
        step = max(1, BLOCK_CELLS // max(1, n_items))
        for start in range(0, len(self), step):
            yield slice(start, start + step)


@dataclass(frozen=True)
class Ratings:
    """All ratings by user, as histories are taken from; `is_sampled`: they are likes alone (implicit feedback)."""

    sequences: UserSequences
    is_sampled: bool = False
    rated: tuple[Codes, Codes] = (np.zeros(0, np.int32), np.zeros(0, np.int32))
    """Users, ascending, and items of what was seen whatever the moment, in a history or not."""

    @classmethod
    def of(cls, ratings: pl.DataFrame, item_ids: Sequence[str], users: Sequence[str], is_sampled: bool) -> Ratings:
        """Of the `ratings` in the order that histories are taken in, those of `item_ids`; `users` may have none."""
        known = ratings.filter(pl.col("item_id").is_in(pl.Series(item_ids, dtype=pl.String).implode()))
        made = UserSequences.from_interactions(known, item_ids)
        rated = set(made.user_ids)
        others = [user for user in users if user not in rated]
        offsets = np.append(made.offsets, np.full(len(others), made.offsets[-1]))
        return cls(UserSequences(made.user_ids + others, made.item_ids, offsets, made.items, made.ratings), is_sampled)

    def with_seen(self, every: pl.DataFrame) -> Ratings:
        """The same, and what is in `every` (user_id, item_id) was seen too."""
        names = (self.sequences.user_ids, self.sequences.item_ids)
        users, items = (pl.Series(ids, dtype=pl.String) for ids in names)
        known = every.filter(pl.col("user_id").is_in(users.implode()), pl.col("item_id").is_in(items.implode()))
        codes = self.sequences.user_codes(known["user_id"]), self.sequences.item_codes(known["item_id"])
        order = np.argsort(codes[0], kind="stable")
        return replace(self, rated=(codes[0][order], codes[1][order]))

    def histories(self, rows: Rows | Visits) -> Runs:
        """Where the histories of `rows` lie in the flat arrays of `sequences`."""
        users = rows.users
        return Runs(self.sequences.offsets[users], rows.lengths)

    @property
    def visits(self) -> Visits:
        """Every user now."""
        count = len(self.sequences.user_ids)
        return Visits(np.arange(count, dtype=np.int32), np.diff(self.sequences.offsets).astype(np.int64))

    def touched(self, visits: Visits) -> tuple[Ints, Ints]:
        """Places: the visit, and in the flat arrays of `sequences`, of every rating of a history."""
        return _places(self.histories(visits))

    def own(self, visits: Visits) -> tuple[Codes, NDArray[np.float32], Runs]:
        """Items and ratings of all histories, one after another, and where each lies; no other rating is looked at."""
        _, flat = self.touched(visits)
        starts = np.cumsum(visits.lengths) - visits.lengths
        return self.sequences.items[flat], self.sequences.ratings[flat], Runs(starts, visits.lengths)

    def seen(self, visits: Visits) -> Flags:
        """Which items each visitor has rated: (n, m)."""
        visit, flat = self.touched(visits)
        users, items = self.rated
        first, after = (np.searchsorted(users, visits.users, side) for side in ("left", "right"))
        also, rated = _places(Runs(first, after - first))
        found = np.zeros((len(visits), len(self.sequences.item_ids)), np.bool_)
        found[visit, self.sequences.items[flat]] = True
        found[also, items[rated]] = True
        return found


def _places(runs: Runs) -> tuple[Ints, Ints]:
    """The number of the run, and the place in the flat array, of all that the runs hold."""
    run = np.repeat(np.arange(len(runs)), runs.lengths)
    first = np.cumsum(runs.lengths) - runs.lengths
    return run, np.arange(len(run)) - np.repeat(first - runs.starts, runs.lengths)
