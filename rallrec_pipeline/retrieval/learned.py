"""A reranker that is learned from training samples, in place of the fixed scores of eq. 8.

A history line has a score: the sum of its features, each times a weight that is not negative. The weights are those
with which the mean rating of the lines, weighted by a softmax of their scores, tells best whether the target is liked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.retrieval.candidates import FEATURES, POOL, Lines, candidate_lines
from rallrec_pipeline.retrieval.neighbours import MAX_ROWS, Rows
from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import NO_ITEM, Asked

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.sequences import UserSequences

FITTED_LINES = 2**21  # most lines that weights are fitted on: some seconds of one core
BLOCK_LINES = 2**20  # lines whose features are held at once when histories are chosen: 16 MB
RIDGE = 1e-4  # keeps a weight finite where one feature decides all
DECIMALS = 3  # of a weight: sums are rounded otherwise on another number of cores


@dataclass(frozen=True)
class LearnedReranker:
    """Weights (f,) float64 of `FEATURES`, none below 0; `rows` training samples were fitted."""

    weights: NDArray[np.float64]
    rows: int

    def choose(self, sequences: UserSequences, samples: Asked, ranking: Ranking, k: int) -> NDArray[np.int32]:
        """Positions (n, k) of the lines with the highest scores, best first, -1 padded."""
        step = max(1, BLOCK_LINES // (2 * POOL * k))
        blocks = [samples[start : start + step] for start in range(0, len(samples), step)]
        chosen = [self.best(candidate_lines(sequences, block, ranking, k), k) for block in blocks]
        return np.concatenate(chosen) if chosen else np.full((0, k), NO_ITEM, np.int32)

    def best(self, lines: Lines, k: int) -> NDArray[np.int32]:
        """Positions (n, k) of the best lines; of equals the more relevant is taken, of those the later."""
        scores = np.where(lines.known, lines.features @ self.weights, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(lines.positions, order, axis=1)

    def weights_by_feature(self) -> dict[str, float]:
        """The weights with the features' names."""
        return dict(zip(FEATURES, self.weights.tolist(), strict=True))


def learn_reranker(sequences: UserSequences, rows: Rows, ranking: Ranking, k: int) -> LearnedReranker | None:
    """Weights that fit the labels of `rows`, at most `MAX_ROWS` of them, evenly spaced; they must be training samples.

    None where nothing can be learned: one label, ratings that are all alike, or no history.
    """
    rows = rows.thinned(min(MAX_ROWS, FITTED_LINES // (2 * POOL * k)))
    lines = candidate_lines(sequences, rows, ranking, k)
    some = lines.known.any(axis=1)
    lines, labels = Lines(lines.positions[some], lines.features[some], lines.ratings[some]), rows.labels[some]
    if len(np.unique(labels)) < 2 or np.ptp(lines.ratings[lines.known]) == 0:
        return None
    return LearnedReranker(_fitted(lines, labels), len(labels))


def _fitted(lines: Lines, labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Weights (f,) of least mean log loss, with a ridge, of a logistic regression on the lines' weighted mean rating.

    All weights begin at 1. The regression has an intercept, and a slope that is not negative.
    """
    from scipy.optimize import minimize

    features, known = lines.features.astype(np.float64), lines.known
    ratings = np.where(known, lines.ratings - lines.ratings[known].mean(dtype=np.float64), 0.0)
    signs = 2.0 * labels - 1
    n_features = features.shape[2]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, (intercept, slope) = parameters[:n_features], parameters[n_features:]
        scores = np.where(known, features @ weights, -np.inf)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)  # (n, c)
        means = (shares * ratings).sum(axis=1)
        margins = signs * (intercept + slope * means)
        by_row = -signs * np.exp(-np.logaddexp(0, margins)) / len(signs)  # gradient by intercept + slope * mean
        pulls = (slope * by_row)[:, None] * shares * (ratings - means[:, None])  # and by each line's score
        gradient = [*(np.tensordot(pulls, features, 2) + 2 * RIDGE * weights), by_row.sum(), by_row @ means]
        return float(np.logaddexp(0, -margins).mean() + RIDGE * weights @ weights), np.array(gradient)

    start = np.array([1.0] * n_features + [0.0, 1.0])
    bounds = [(0, None)] * n_features + [(None, None), (0, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: NDArray[np.float64] = np.round(found.x[:n_features], DECIMALS)
    return weights
