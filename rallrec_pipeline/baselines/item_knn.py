"""Nearest items of a history: similarities by co-rating and by text, and what the ratings of the nearest say.

No matrix of all items by all items is made: targets come in blocks, with one row of similarities for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ragged import Runs, padded_batches
from rallrec_pipeline.baselines.rating_log import Ratings

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]
Similarity = Callable[[Codes], Floats]
"""Similarity of items (b,) to all items: (b, m) float32, never below 0."""

SIMILARITY_SHRINKAGE = 20.0  # common raters that count as none
BLOCK_CELLS = 2**24  # similarities held at once: 64 MB
MAX_OF_USER = 500  # ratings of a user, the last ones, that co-rating looks at: pairs grow with their square


@dataclass(frozen=True)
class Neighbours:
    """What the nearest history items of n rows say.

    `deviations` (n, len(ks)) is the similarity-weighted mean deviation of the k nearest, 0 where nothing is similar;
    `highest` and `total` (n,) are the largest similarity and the sum of all.
    """

    deviations: Floats
    highest: Floats
    total: Floats


def co_rating(ratings: Ratings, n_items: int, centred: bool = True) -> Similarity:
    """Cosine of user-centred `ratings`, user by user in order, shrunk by n/(n + 20) for n common raters.

    Not `centred`: where all ratings are alike, as of implicit feedback, the cosine of who has touched what.
    """
    from scipy.sparse import csr_array

    users, items = ratings.users, ratings.items
    n_users = int(users.max()) + 1 if len(users) else 0
    counts = np.bincount(users, minlength=n_users)
    means = np.bincount(users, ratings.values, n_users) / np.maximum(counts, 1) * centred
    late = np.arange(len(users)) >= np.cumsum(counts)[users] - MAX_OF_USER
    values = (ratings.values - means[users])[late].astype(np.float32)
    users, items = users[late], items[late]
    norms = np.sqrt(np.bincount(items, values.astype(np.float64) ** 2, n_items)).astype(np.float32)
    unit = np.divide(values, norms[items], out=np.zeros_like(values), where=norms[items] > 0)
    rated: Any = csr_array((np.ones_like(unit), (users, items)), shape=(n_users, n_items))
    cosines: Any = csr_array((unit, (users, items)), shape=(n_users, n_items))
    rated_by, cosines_by = rated.T.tocsr(), cosines.T.tocsr()

    def similarity(targets: Codes) -> Floats:
        common = (rated_by[targets] @ rated).toarray()
        cosine = np.maximum((cosines_by[targets] @ cosines).toarray(), 0)
        return np.asarray(cosine * (common / (common + SIMILARITY_SHRINKAGE)), np.float32)

    return similarity


def text_likeness(vectors: Floats) -> Similarity:
    """Squared cosine of centred vectors (m, d); 0 where it is negative."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)

    def similarity(targets: Codes) -> Floats:
        return np.asarray(np.maximum(unit[targets] @ unit.T, 0) ** 2, np.float32)

    return similarity


def neighbours(
    similarity: Similarity,
    items: Codes,
    deviations: Floats,
    histories: Runs,
    targets: Codes,
    n_items: int,
    ks: Sequence[int],
) -> Neighbours:
    """The nearest to `targets` (n,) among `histories`: runs (n,) of the flat `items` and `deviations` of ratings.

    Of equally near items the later ones of the history count.
    """
    found = Neighbours(
        np.zeros((len(targets), len(ks)), np.float32),
        np.zeros(len(targets), np.float32),
        np.zeros(len(targets), np.float32),
    )
    columns = np.append(items, np.int32(n_items))  # behind the end of a history: an item that is like nothing
    values = np.append(deviations, np.float32(0))
    for rows, local, near in _blocks(similarity, targets, n_items):
        for batch in padded_batches(histories[rows]):
            places, place = batch.places, rows[batch.rows]
            alike = near[local[batch.rows, None], columns.take(places)]
            found.highest[place], found.total[place] = alike.max(axis=1), alike.sum(axis=1)
            weights, order = _nearest(alike, max(ks))
            said = np.take_along_axis(values.take(places), order, axis=1)
            for column, k in enumerate(ks):
                weight = weights[:, :k].sum(axis=1)
                total = (weights[:, :k] * said[:, :k]).sum(axis=1)
                found.deviations[place, column] = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return found


def _blocks(
    similarity: Similarity, targets: Codes, n_items: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Floats]]:
    """(rows, their targets' places in the block, similarities with a last column of zeros), block by block."""
    known, codes = np.unique(targets, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    step = max(1, BLOCK_CELLS // (n_items + 1))
    for first in range(0, len(known), step):
        low, high = np.searchsorted(codes[order], [first, first + step])
        rows = order[low:high]
        block = similarity(known[first : first + step])
        yield rows, codes[rows] - first, np.pad(block, ((0, 0), (0, 1)))


def _nearest(alike: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Similarities and places (b, at most k) of the nearest of each row of `alike` (b, longest), the nearest first.

    Similarity and place are packed into one integer; those of floats from 0 on are in the order of the floats.
    """
    longest = alike.shape[1]
    keys = (alike + np.float32(0)).view(np.int32).astype(np.int64) << 32 | np.arange(longest)
    if k < longest:
        keys.partition(longest - k, axis=1)
        keys = keys[:, longest - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    return (keys >> 32).astype(np.int32).view(np.float32), keys & 0xFFFFFFFF
