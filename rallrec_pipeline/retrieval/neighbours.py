"""A cheap proxy of a prompt's worth: can the ratings of the chosen history items rank the targets?

No LLM is called. It settles which vectors, weights or channel score to use before a prompt is made. Weights are
chosen on validation rows; nothing is fitted to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import Asked, Retrieved, most_recent, most_relevant
from rallrec_pipeline.retrieval.rerank import rerank

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.sequences import UserSequences
    from rallrec_pipeline.settings import RelevanceKind

ALPHAS = (1 / 2, 2 / 3, 4 / 5)
LEVELS = (0.0, 0.5, 1.0)
MARGIN = 0.001  # a gain of AUC below this is noise: the choice with fewer parts stays
MAX_ROWS = 20_000  # rows a search looks at, evenly spaced: the standard error of the AUC is then about 0.004


@dataclass(frozen=True)
class Rows(Asked):
    """Samples to judge by; `labels` (n,) are 0 or 1."""

    labels: NDArray[np.int8]

    def thinned(self, most: int) -> Rows:
        """At most `most` rows, evenly spaced."""
        kept = np.linspace(0, len(self.labels) - 1, min(most, len(self.labels))).astype(np.int64)
        return Rows(self.user_codes[kept], self.history_lengths[kept], self.targets[kept], self.labels[kept])


@dataclass(frozen=True)
class MixtureChoice:
    """The chosen weights of eq. 7, and the AUC of every combination that was tried."""

    weights: dict[RelevanceKind, float]
    auc: float
    tried: list[dict[str, float]]


def neighbour_score(
    sequences: UserSequences, user_codes: NDArray[np.int32], positions: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Mean rating (n,), weighted by 1/rank, of the chosen history items `positions` (n, k; -1 padded).

    A row without items gets 0.
    """
    known = positions >= 0
    where = sequences.offsets[user_codes][:, None] + np.maximum(positions, 0)
    ratings = np.where(known, sequences.ratings[np.minimum(where, len(sequences.ratings) - 1)], 0.0)
    weights = np.where(known, 1 / np.arange(1, positions.shape[1] + 1), 0.0)
    total = weights.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(
        (weights * ratings).sum(axis=1), total, out=np.zeros(len(total)), where=total > 0
    )
    return mean


def neighbour_auc(sequences: UserSequences, rows: Rows, positions: NDArray[np.int32]) -> float:
    """AUC of `neighbour_score` against the labels of `rows`; 0.5 where only one label occurs."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(rows.labels)) < 2:
        return 0.5
    return float(roc_auc_score(rows.labels, neighbour_score(sequences, rows.user_codes, positions)))


def search_mixture(
    sequences: UserSequences, rows: Rows, parts: Mapping[RelevanceKind, NDArray[np.float32]], k: int
) -> MixtureChoice:
    """Weights of eq. 7 out of 0, 1/2 and 1 per part, by neighbour AUC of the `k` most relevant on `rows`.

    Where all ratings are alike (implicit feedback) their mean tells nothing: then by the AUC of the mean relevance.

    `parts` are (n_items, d_i). Of the combinations within `MARGIN` of the best the one with the fewest parts is
    taken, of those the best. `tried` has one entry per combination: the weights and `auc`.
    """
    rows = rows.thinned(MAX_ROWS)
    kinds = list(parts)
    results: list[tuple[dict[RelevanceKind, float], float]] = []
    for levels in product(LEVELS, repeat=len(kinds)):
        if max(levels) < 1:  # zero, or a rescaled other combination
            continue
        weights = dict(zip(kinds, levels, strict=True))
        found = most_relevant(sequences, rows, mix(parts, weights), k)
        results.append((weights, _relevance_auc(sequences, rows, found)))
    best = max(auc for _, auc in results)
    near = [result for result in results if result[1] >= best - MARGIN]
    weights, auc = min(near, key=lambda result: (sum(w > 0 for w in result[0].values()), -result[1]))
    tried = [{**{str(kind): weight for kind, weight in w.items()}, "auc": a} for w, a in results]
    return MixtureChoice(weights, auc, tried)


def search_alpha(
    sequences: UserSequences, rows: Rows, ranking: Ranking, k: int, beta: float
) -> tuple[float, list[dict[str, float]]]:
    """The alpha of eq. 8 out of 1/2, 2/3, 4/5 with the best neighbour AUC on `rows`, and every one's AUC.

    `ranking` says what is relevant. At equal AUC the smaller alpha stays.
    """
    rows = rows.thinned(MAX_ROWS)
    found = ranking(sequences, rows, k)
    recent = most_recent(rows.history_lengths, k)
    tried = []
    for alpha in ALPHAS:
        chosen = rerank(found.positions, recent.positions, alpha, beta, k)
        tried.append({"alpha": alpha, "auc": neighbour_auc(sequences, rows, chosen)})
    return max(tried, key=lambda result: result["auc"])["alpha"], tried


def _relevance_auc(sequences: UserSequences, rows: Rows, found: Retrieved) -> float:
    if np.ptp(sequences.ratings) > 0 or len(np.unique(rows.labels)) < 2:
        return neighbour_auc(sequences, rows, found.positions)
    from sklearn.metrics import roc_auc_score

    known = found.positions >= 0
    mean = np.where(known, found.scores, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return float(roc_auc_score(rows.labels, mean))
