"""Runs of different lengths in one flat array, computed with in padded batches of about equal size.

A run is what lies at `starts[i] : starts[i] + lengths[i]` of a flat array: the history of a sample, the ratings of an
item. Runs may overlap, as the histories of one user do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
BATCH_CELLS = 2**18  # cells of a padded batch: with 32 factors a cell has 128 bytes

SPREAD = 1.5


@dataclass(frozen=True)
class Runs:
    """`starts` and `lengths` (n,) int64."""

    starts: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: NDArray[np.int64]) -> Runs:
        return Runs(self.starts[rows], self.lengths[rows])

    def sums(self, values: NDArray[np.float64], last: int | None = None) -> NDArray[np.float64]:
        """Sum (n,) of flat `values` over each run, or over its `last` ones."""
        totals = np.concatenate([[0.0], np.cumsum(values)])
        lengths = self.lengths if last is None else np.minimum(self.lengths, last)
        ends = self.starts + self.lengths
        return np.asarray(totals[ends] - totals[ends - lengths], np.float64)

    def means(self, values: NDArray[np.float64], empty: float, last: int | None = None) -> NDArray[np.float64]:
        """Mean (n,) of flat `values` over each run, or over its `last` ones; `empty` for an empty run."""
        lengths = self.lengths if last is None else np.minimum(self.lengths, last)
        return np.where(lengths > 0, self.sums(values, last) / np.maximum(lengths, 1), empty)


@dataclass(frozen=True)
class Batch:
    """Runs of about one length, the shortest first: `rows` (b,) says which they are of all."""

    rows: Ints
    runs: Runs

    @property
    def places(self) -> Ints:
        """Where they lie, (b, longest) int64; -1 is behind a run's end. Made anew each time: many are kept waiting."""
        step = np.arange(self.runs.lengths[-1])
        places = self.runs.starts[:, None] + step
        places[step >= self.runs.lengths[:, None]] = -1
        return places


def padded_batches(runs: Runs, cells: int = BATCH_CELLS) -> Iterator[Batch]:
    """All runs that are not empty, the short ones first; a batch has at most `cells` cells, or one run.

    No run of a batch is longer than `SPREAD` times the shortest, so that most cells are filled.
    """
    order = np.argsort(runs.lengths, kind="stable")
    order = order[np.searchsorted(runs.lengths[order], 1) :]
    lengths = runs.lengths[order]
    first = 0
    while first < len(order):
        alike = int(np.searchsorted(lengths, SPREAD * lengths[first], side="right"))
        last = _end_of_batch(lengths[:alike], first, cells)
        rows = order[first:last]
        yield Batch(rows, runs[rows])
        first = last


def _end_of_batch(lengths: Ints, first: int, cells: int) -> int:
    """The largest end for which the batch, as wide as its last run, has at most `cells` cells; or of one run."""
    ends = range(first + 1, len(lengths) + 1)
    return first + max(1, bisect_right(ends, cells, key=lambda end: (end - first) * int(lengths[end - 1])))
