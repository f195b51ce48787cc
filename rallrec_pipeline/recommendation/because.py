"""Which lines of a history stand behind a recommendation: those that retrieval sets against the item (eq. 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits
from rallrec_pipeline.retrieval.histories import Retriever
from rallrec_pipeline.retrieval.relevance import Asked


def lines_behind(retriever: Retriever, ratings: Ratings, visits: Visits, items: Codes) -> NDArray[np.int32]:
    """Item codes (n, c, K) of the lines for `items` (n, c), the best first; -1 pads, and is all of padding."""
    k, rows, sequences = retriever.settings.history_length, visits.rows(items), ratings.sequences
    kept = np.flatnonzero(rows.targets >= 0)
    asked = Asked(rows.users[kept], rows.lengths[kept].astype(np.int32), rows.targets[kept])
    positions = retriever.reranked(sequences, asked)
    found = np.full((len(rows), k), -1, np.int32)
    flat = sequences.offsets[asked.user_codes][:, None] + np.maximum(positions, 0)
    last = max(0, len(sequences.items) - 1)
    codes = sequences.items[np.minimum(flat, last)] if len(sequences.items) else np.full(flat.shape, -1, np.int32)
    found[kept] = np.where(positions >= 0, codes, -1)
    return found.reshape(*items.shape, k)
