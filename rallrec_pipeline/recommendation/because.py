"""Which lines of a history stand behind a recommendation: those that retrieval sets against the item (eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits
from rallrec_pipeline.retrieval.learned import LearnedReranker
from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import most_recent
from rallrec_pipeline.retrieval.rerank import rerank
from rallrec_pipeline.settings import RetrievalSettings


@dataclass(frozen=True)
class Retriever:
    """How a history is cut to K lines for a target: `ranking`, then eq. 8 with `alpha`, or what was learned."""

    ranking: Ranking
    settings: RetrievalSettings
    alpha: float
    learned: LearnedReranker | None = None

    def lines(self, ratings: Ratings, visits: Visits, items: Codes) -> NDArray[np.int32]:
        """Item codes (n, c, K) of the lines for `items` (n, c), the best first; -1 pads, and is all of padding."""
        k, rows = self.settings.history_length, visits.rows(items)
        kept = np.flatnonzero(rows.targets >= 0)
        users, lengths = rows.users[kept], rows.lengths[kept].astype(np.int32)
        sequences, targets = ratings.sequences, rows.targets[kept]
        if self.learned is not None:
            positions = self.learned.choose(sequences, users, lengths, targets, self.ranking, k)
        else:
            relevant = self.ranking(sequences, users, lengths, targets, k)
            recent = most_recent(lengths, k)
            positions = rerank(relevant.positions, recent.positions, self.alpha, self.settings.beta, k)
        found = np.full((len(rows), k), -1, np.int32)
        flat = sequences.offsets[users][:, None] + np.maximum(positions, 0)
        last = max(0, len(sequences.items) - 1)
        codes = sequences.items[np.minimum(flat, last)] if len(sequences.items) else np.full(flat.shape, -1, np.int32)
        found[kept] = np.where(positions >= 0, codes, -1)
        return found.reshape(*items.shape, k)
