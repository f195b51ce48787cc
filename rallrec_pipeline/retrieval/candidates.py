"""The history lines that a learned reranker chooses from, and what it knows of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import NO_ITEM, Asked, Retrieved, most_recent

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.sequences import UserSequences

FEATURES = ("relevance", "similarity", "recency", "age")
"""1 / rank by relevance (0 beyond the pool), similarity to the target, 1 / rank by time, minus the log of that rank."""
POOL = 4  # times K: lines of each channel


@dataclass(frozen=True)
class Lines:
    """Candidates of n samples: the most relevant, best first, then the recent ones that are not among them.

    `positions` (n, c) int32 counts from the user's oldest interaction, -1 pads; `features` (n, c, f) and `ratings`
    (n, c) float32 are 0 there.
    """

    positions: NDArray[np.int32]
    features: NDArray[np.float32]
    ratings: NDArray[np.float32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which cells hold a line: (n, c)."""
        return self.positions != NO_ITEM


def candidate_lines(sequences: UserSequences, samples: Asked, ranking: Ranking, k: int) -> Lines:
    """The lines that a reranker of `k` chooses from."""
    relevant = ranking(sequences, samples, POOL * k)
    recent = most_recent(samples.history_lengths, POOL * k).positions
    late = np.where(_among(recent, relevant.positions), NO_ITEM, recent)
    positions = np.concatenate([relevant.positions, late], axis=1)
    known = positions != NO_ITEM
    by_time = np.maximum(samples.history_lengths[:, None] - positions, 1)
    of_relevance = _relevance_features(relevant, late.shape[1])
    features = np.stack([*of_relevance, 1 / by_time, -np.log(by_time)], axis=2)
    places = sequences.offsets[samples.user_codes][:, None] + positions
    ratings = np.zeros(positions.shape, np.float32)
    ratings[known] = sequences.ratings[places[known]]
    return Lines(positions, np.where(known[:, :, None], features, 0).astype(np.float32), ratings)


def _relevance_features(relevant: Retrieved, others: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 / rank and similarity, (n, pool + `others`) each; an item beyond the pool is as similar as the pool's last."""
    n, pool = relevant.positions.shape
    ranks = np.concatenate([1 / np.arange(1, pool + 1), np.zeros(others)])
    known = relevant.positions != NO_ITEM
    least = np.where(known, relevant.scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    beyond = np.broadcast_to(np.where(np.isfinite(least), least, 0), (n, others))
    return np.broadcast_to(ranks, (n, pool + others)), np.concatenate([relevant.scores, beyond], axis=1)


def _among(some: NDArray[np.int32], others: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which positions of `some` (n, a) stand in the same row of `others` (n, b), padding aside: (n, a)."""
    width = 1 + max(int(some.max(initial=0)), int(others.max(initial=0)))
    rows = np.arange(len(some), dtype=np.int64)[:, None] * width
    return np.asarray(np.isin(rows + some, (rows + others)[others != NO_ITEM]) & (some != NO_ITEM))
