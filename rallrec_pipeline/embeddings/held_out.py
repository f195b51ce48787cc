"""A fit of the projector that leaves items out, so that what it knows of unseen ones can be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.alignment import Progress, train_projector

if TYPE_CHECKING:
    from rallrec_pipeline.settings import AlignmentSettings

HELD_OUT = 0.2  # share of the items that the fit does not see
MEASURED = 10_000  # most items that are measured: the cost of comparing all with all grows with their square


@dataclass(frozen=True)
class HeldOutFit:
    """What a projector makes of `rows` (m,), of which it was fitted on those that are not `is_held_out` (m,).

    `before` and `after` (m, d_colla) float32 are their text vectors through its first weights and through its last.
    """

    rows: NDArray[np.int64]
    is_held_out: NDArray[np.bool_]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


def measurable_items(text: NDArray[np.float32], collaborative: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of the items that have a text and a collaborative vector, in order.

    `text` is (n, d_text), `collaborative` (n, d_colla); an item of which nothing was learned has a zero row.
    """
    return np.flatnonzero(text.any(axis=1) & collaborative.any(axis=1)).astype(np.int64)


def fit_held_out(
    text: NDArray[np.float32],
    collaborative: NDArray[np.float32],
    rows: NDArray[np.int64],
    settings: AlignmentSettings,
    seed: int,
    progress: Progress | None = None,
    most: int = MEASURED,
) -> HeldOutFit:
    """Fit the projector (eq. 5) on 80% of the items `rows`, drawn by `seed`, and project all of them.

    Where there are more than `most` items, so many are drawn. No held-out row of either kind of vector reaches the
    fit. The vectors themselves know all items: the components of the text vectors (PCA) and LightGCN were fitted on
    them.
    """
    rng = np.random.default_rng([seed, 1])
    rows = np.sort(rng.permutation(rows)[:most])
    is_held_out = np.zeros(len(rows), np.bool_)
    is_held_out[rng.permutation(len(rows))[: max(1, round(HELD_OUT * len(rows)))]] = True
    inputs, goals, examples = text[rows], collaborative[rows], ~is_held_out
    untrained = settings.model_copy(update={"epochs": 0})
    before = train_projector(inputs, goals, untrained, seed, examples=examples).vectors
    after = train_projector(inputs, goals, settings, seed, progress, examples).vectors
    return HeldOutFit(rows, is_held_out, before, after)
