"""Scores of the whole catalogue by matrix products: popularity, nearest items, LightGCN, factorisation, the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.item_knn import BLOCK_CELLS, co_rating
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.recommendation.fit import ExpertFit
from rallrec_pipeline.recommendation.today import Ratings, Visits
from rallrec_pipeline.retrieval.index import search

if TYPE_CHECKING:
    import faiss

Floats = NDArray[np.float32]
Scorer = Callable[[Visits], Floats]
"""Scores (n, m) of all items for n visits; higher is better, and only the order within a visit means something."""

NEAREST = 100  # items that an item lends its score to


def popularity(fit: ExpertFit) -> Scorer:
    """Training ratings of the item, the same for all."""
    counts = fit.counts().astype(np.float32)
    return lambda visits: np.broadcast_to(counts, (len(visits), len(counts))).copy()


def factorisation(fit: ExpertFit, ratings: Ratings) -> Scorer:
    """Rating that the factorisation expects, users folded in by their histories."""
    model = fit.factorisation

    def score(visits: Visits) -> Floats:
        bias, tastes = model.folded_in(*ratings.own(visits), one_sided=ratings.is_sampled)
        found = tastes @ model.factors.T + model.biases
        return np.asarray(found + (model.mean + bias[:, None]), np.float32)

    return score


def item_knn(fit: ExpertFit, ratings: Ratings) -> Scorer:
    """Sum of the similarities to the history's items, each to its `NEAREST` (Deshpande and Karypis 2004).

    Similarity is the shrunk cosine of who has rated what, whatever the rating: what is rated low was chosen too.
    """
    near = _nearest(fit)

    def score(visits: Visits) -> Floats:
        return np.asarray((_touched(ratings, visits) @ near).toarray(), np.float32)

    return score


def lightgcn(vectors: Floats, ratings: Ratings, is_signed: bool) -> Scorer:
    """Dot product of the item's vector (m, d) with the user's: one step of the graph away from the history (eq. 4).

    Edges weigh 1, or in a signed graph the rating less the user's mean.
    """

    def score(visits: Visits) -> Floats:
        weighted = _touched(ratings, visits, _above_mean(ratings, visits) if is_signed else None)
        return np.asarray((weighted @ vectors) @ vectors.T, np.float32)

    return score


def user_vectors(vectors: Floats, ratings: Ratings, visits: Visits) -> Floats:
    """Unit vectors (n, d) of users: the mean of those of the items that they rated above their own mean, or of all."""
    _, flat = ratings.touched(visits)
    above = _above_mean(ratings, visits) > 0
    liked = np.asarray(_touched(ratings, visits, above.astype(np.float32)) @ vectors, np.float32)
    every = np.asarray(_touched(ratings, visits) @ vectors, np.float32) if len(flat) else liked
    return unit_rows(np.where(np.any(liked, axis=1, keepdims=True), liked, every))


def by_index(index: faiss.Index, users: Floats, quota: int, longest: int) -> NDArray[np.int64]:
    """Places (n, k) of the items nearest to `users` (n, d), `quota` of them besides `longest` that are seen."""
    return search(index, users, min(quota + longest, index.ntotal))[0]


def _touched(ratings: Ratings, visits: Visits, weights: Floats | None = None) -> Any:
    """Sparse (n, m): a one, or the weight, for each item of a history."""
    from scipy.sparse import csr_array

    visit, flat = ratings.touched(visits)
    values = np.ones(len(flat), np.float32) if weights is None else weights
    shape = (len(visits), len(ratings.sequences.item_ids))
    return csr_array((values, (visit, ratings.sequences.items[flat])), shape=shape)


def _above_mean(ratings: Ratings, visits: Visits) -> Floats:
    """Each rating of each history, less the mean of that history; of likes alone, 1."""
    _, values, runs = ratings.own(visits)
    means = runs.means(values.astype(np.float64), 0.0)
    found = (values - np.repeat(means, runs.lengths)).astype(np.float32)
    return np.ones_like(found) if ratings.is_sampled else found


def _nearest(fit: ExpertFit) -> Any:
    """Sparse (m, m): the similarities of an item to its `NEAREST`."""
    from scipy.sparse import csr_array

    n_items = len(fit.item_ids)
    similarity = co_rating(fit.seen.ratings, n_items, centred=False)
    step, k = max(1, BLOCK_CELLS // max(1, n_items)), min(NEAREST, n_items)
    columns, values = [np.zeros((0, k), np.int64)], [np.zeros((0, k), np.float32)]
    for start in range(0, n_items, step):
        block = similarity(np.arange(start, min(start + step, n_items), dtype=np.int32))
        block[np.arange(len(block)), start + np.arange(len(block))] = 0
        best = np.argpartition(-block, k - 1, axis=1)[:, :k]
        columns.append(best)
        values.append(np.take_along_axis(block, best, axis=1))
    rows = np.arange(n_items + 1) * k
    return csr_array((np.concatenate(values).ravel(), np.concatenate(columns).ravel(), rows), shape=(n_items, n_items))
