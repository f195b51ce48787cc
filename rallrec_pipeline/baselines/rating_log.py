"""The core ratings by user and the samples as codes, and which of them something may be fitted on.

A fold is a fit and the training rows that it may be asked about: it has seen neither their targets nor, where ratings
have times, anything later. So what it says of them is what it would say of test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.sequences import UserSequences

Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

EARLY = 0.6  # share of the training rows that others are fitted before, for the features of the rest
USER_FOLDS = 5  # where users are split: of their targets each fifth is foretold by a fit without it


@dataclass(frozen=True)
class Rows:
    """Ratings to predict (n,): codes of `users` and `targets`; the history is the user's first `lengths` ratings."""

    users: Codes
    lengths: Ints
    targets: Codes

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, chosen: Flags | Ints) -> Rows:
        return Rows(self.users[chosen], self.lengths[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Ratings:
    """Ratings (n,), user by user: codes of `users` and `items`, `values` float32."""

    users: Codes
    items: Codes
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Seen:
    """What a fit may look at: `ratings` are interactions; `judged` have both answers, so with sampled negatives they
    are the samples, else the same."""

    ratings: Ratings
    judged: Ratings


@dataclass(frozen=True)
class Fold:
    """Numbers of training `rows` (n,) int64 among the samples, and what those who foretell them have `seen`."""

    rows: Ints
    seen: Seen


@dataclass(frozen=True)
class RatingLog:
    """All core ratings of a dataset, and its samples (n,) in order.

    `places` are the core's places of the flat ratings of `sequences`; `moments` (n,) those at which samples are asked,
    so of their targets. `fitted` says which flat ratings are training interactions.
    """

    sequences: UserSequences
    rows: Rows
    labels: NDArray[np.int8]
    values: NDArray[np.float32]
    train: Ints
    places: Ints
    moments: Ints
    fitted: Flags
    in_time: bool
    is_sampled: bool

    @classmethod
    def of(cls, core: pl.DataFrame, samples: pl.DataFrame, item_ids: Sequence[str]) -> RatingLog:
        """From the tables `core_interactions` and `samples` and the ids of `core_items`."""
        sequences = UserSequences.from_interactions(core, item_ids)
        places = np.argsort(sequences.user_codes(core["user_id"]), kind="stable")
        rows = rows_of(samples, sequences)
        in_time = core["timestamp"].null_count() == 0
        return cls(
            sequences,
            rows,
            samples["label"].to_numpy(),
            samples["rating"].to_numpy().astype(np.float32),
            np.flatnonzero((samples["split"] == "train").to_numpy()),
            places,
            moments(rows, sequences, places),
            _fitted(core, samples, in_time)[places],
            in_time,
            bool((sequences.items[sequences.offsets[rows.users] + rows.lengths] != rows.targets).any()),
        )

    def histories(self, rows: Rows) -> Runs:
        """Where the histories of `rows` lie in the flat arrays of `sequences`."""
        return Runs(self.sequences.offsets[rows.users], rows.lengths)

    def seen(self, flat: Flags, samples: Flags) -> Seen:
        """The flat ratings and, of the training samples, those that are flagged."""
        users = np.repeat(np.arange(len(self.sequences.user_ids), dtype=np.int32), np.diff(self.sequences.offsets))
        ratings = Ratings(users[flat], self.sequences.items[flat], self.sequences.ratings[flat])
        if not self.is_sampled:
            return Seen(ratings, ratings)
        chosen = self.train[samples]
        return Seen(ratings, Ratings(self.rows.users[chosen], self.rows.targets[chosen], self.values[chosen]))

    def whole_training(self) -> Seen:
        """All that may be fitted on: what validation and test rows are foretold by."""
        return self.seen(self.fitted, np.ones(len(self.train), bool))

    def before(self, place: int) -> Seen:
        """What was rated before a place of the core, of the training interactions."""
        return self.seen(self.fitted & (self.places < place), self.moments[self.train] < place)

    def without(self, held: Flags) -> Seen:
        """Training interactions and training samples without the flat ratings that are `held`."""
        targets = self.sequences.offsets[self.rows.users] + self.rows.lengths
        return self.seen(self.fitted & ~held, ~held[targets[self.train]])

    def folds(self, seed: int, most: int) -> list[Fold]:
        """Training rows, `most` of them, and what has been seen without them.

        In time: of the last 40% of the rows, after a fit on what is before them; of all rows, after a fit on the first
        ratings alone, where those are of one class. Where users are split: of all rows, in `USER_FOLDS` parts.
        """
        if self.in_time:
            late = self.train[int(EARLY * len(self.train)) :]
            if np.unique(self.labels[late]).size < 2:
                late = self.train
            place = int(self.moments[late[0]])
            late = self.train[self.moments[self.train] >= place]  # a target and its negatives stay together
            return [Fold(_thinned(late, most), self.before(place))]
        part = np.random.default_rng(seed).permutation(len(self.train)) % USER_FOLDS
        parts = [self.train[part == number] for number in np.unique(part)]
        return [Fold(_thinned(rows, most // len(parts)), self.without(self._targets(rows))) for rows in parts]

    def _targets(self, samples: Ints) -> Flags:
        """Which flat ratings are the targets of samples, or were at the moment of a sampled negative."""
        rows = self.rows[samples]
        found = np.zeros(len(self.fitted), bool)
        found[self.sequences.offsets[rows.users] + rows.lengths] = True
        return found


def _thinned(rows: Ints, most: int) -> Ints:
    """At most `most` rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def _fitted(core: pl.DataFrame, samples: pl.DataFrame, in_time: bool) -> Flags:
    """Which rows of `core` are training interactions."""
    training = training_interactions(core, samples)
    if in_time:  # the first of the core: no join of millions of ids
        return np.arange(core.height) < training.height
    pair = ["user_id", "item_id"]
    marks = training.select(*pair, pl.lit(True).alias("fitted"))
    marked = core.select(pair).join(marks, on=pair, how="left", maintain_order="left")
    return marked["fitted"].fill_null(False).to_numpy()


def rows_of(frame: pl.DataFrame, sequences: UserSequences) -> Rows:
    """Rows of a table with user_id, item_id and history_length. Raises DataError for an unknown id."""
    return Rows(
        sequences.user_codes(frame["user_id"]),
        frame["history_length"].to_numpy().astype(np.int64),
        sequences.item_codes(frame["item_id"]),
    )


def moments(rows: Rows, sequences: UserSequences, places: Ints) -> Ints:
    """Places in the core at which `rows` are asked: of the user's rating that follows the history, else the end."""
    flat = sequences.offsets[rows.users] + rows.lengths
    inside = flat < sequences.offsets[rows.users + 1]
    found = np.full(len(rows), len(places), np.int64)
    found[inside] = places[flat[inside]]
    return found
