"""Biased matrix factorisation by alternating least squares; users are folded in from the history of the moment.

Fitted are the mean, the item biases and the item factors, on the training ratings that are given. The user of a row is
never looked up: bias and factors come by ridge from the history alone, so that a new user has them too, and nothing
later than the row can enter.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ragged import Batch, Runs, padded_batches
from rallrec_pipeline.baselines.rating_log import Ratings
from rallrec_pipeline.language_models.sizing.hardware import threads

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]

FACTORS, RIDGE, ROUNDS = 32, 8.0, 12
ITEM_SHRINKAGE = 5.0  # pseudo-ratings at the mean
USER_SHRINKAGE = 10.0
FIRST_SPREAD = 0.1  # of the random factors that the rounds begin with


@dataclass(frozen=True)
class Opinion:
    """What is foretold for n rows, in units of the rating: `bias` (n,) without factors, `rating` (n,) with them."""

    bias: Floats
    rating: Floats


@dataclass(frozen=True)
class Factorisation:
    """rating = `mean` + item bias + user bias + product of factors; `biases` (m,) and `factors` (m, f) are of items."""

    mean: float
    biases: Floats
    factors: Floats

    def opinions(
        self, items: Codes, ratings: Floats, histories: Runs, targets: Codes, one_sided: bool = False
    ) -> Opinion:
        """What users would give `targets` (n,), by their histories: runs (n,) of the flat `items` and `ratings`.

        `one_sided`: a history has likes alone, as of implicit feedback. Then users have no bias, which would be that of
        all, and would leave nothing to the factors.
        """
        user_bias, tastes = self.folded_in(items, ratings, histories, one_sided)
        bias = self.mean + self.biases[targets] + user_bias
        rating = bias + np.einsum("nf,nf->n", tastes, self.factors[targets])
        return Opinion(bias.astype(np.float32), rating.astype(np.float32))

    def among(self, items: Codes) -> Factorisation:
        """The same of some items (n,), which are numbered anew."""
        return Factorisation(self.mean, self.biases[items], self.factors[items])

    def folded_in(
        self, items: Codes, ratings: Floats, histories: Runs, one_sided: bool = False
    ) -> tuple[NDArray[np.float64], Floats]:
        """Biases (n,) and factors (n, f) of users by their histories, as `opinions` takes them."""
        above = ratings - self.mean - self.biases[items]
        user_bias = histories.sums(above.astype(np.float64)) / (histories.lengths + USER_SHRINKAGE)
        user_bias *= not one_sided
        return user_bias, ridge(self.factors, items, above, histories, user_bias.astype(np.float32))


def fit_factorisation(ratings: Ratings, n_items: int, seed: int, without: float = 0.0) -> Factorisation:
    """Fit on `ratings`, in any order; an item without ratings has bias and factors of 0.

    Item biases are shrunk by `ITEM_SHRINKAGE`, user biases by `USER_SHRINKAGE`; then `FACTORS` factors are fitted to
    what is left, by `ROUNDS` of ridge regression of the users on the items and back. `without` is the mean of no
    ratings.
    """
    users, items, values = ratings.users, ratings.items, ratings.values
    mean = float(values.mean(dtype=np.float64)) if len(values) else without
    n_users = int(users.max()) + 1 if len(users) else 0
    biases = _shrunk_means(items, values - mean, n_items, ITEM_SHRINKAGE)
    user_biases = _shrunk_means(users, values - mean - biases[items], n_users, USER_SHRINKAGE)
    left = (values - mean - biases[items] - user_biases[users]).astype(np.float32)
    by_user, by_item = _grouped(users, n_users), _grouped(items, n_items)
    factors = np.random.default_rng(seed).normal(0, FIRST_SPREAD, (n_items, FACTORS)).astype(np.float32)
    of_users = (items[by_user.order], left[by_user.order], by_user.runs)
    of_items = (users[by_item.order], left[by_item.order], by_item.runs)
    for _ in range(ROUNDS):
        factors = ridge(ridge(factors, *of_users), *of_items)
    return Factorisation(mean, biases.astype(np.float32), factors)


def ridge(factors: Floats, columns: Codes, values: Floats, runs: Runs, offsets: Floats | None = None) -> Floats:
    """Weights (n, f) of one ridge regression a run; those of an empty run are 0.

    Run i regresses the flat `values`, less `offsets[i]`, on the rows of `factors` (m, f) that the flat `columns` name.
    """
    width = factors.shape[1]
    padded = np.vstack([factors, np.zeros((1, width), np.float32)])  # what is behind a run's end weighs nothing
    columns = np.append(columns, np.int32(len(factors)))
    values = np.append(values, np.float32(0))
    found = np.zeros((len(runs), width), np.float32)

    def solve(batch: Batch) -> None:
        places = batch.places
        inputs = padded.take(columns.take(places), axis=0)  # (b, longest, f); much faster than indexing
        wanted = values.take(places)
        if offsets is not None:
            wanted -= offsets[batch.rows, None]
        found[batch.rows] = _solved(inputs, wanted[:, :, None])[:, :, 0]

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(solve, padded_batches(runs)))
    return found


def _solved(inputs: Floats, wanted: Floats) -> Floats:
    """Ridge weights (b, f, 1) of `inputs` (b, n, f) and `wanted` (b, n, 1), by the smaller system of the two."""
    transposed = inputs.transpose(0, 2, 1)
    penalty = RIDGE * np.eye(min(inputs.shape[1:]), dtype=np.float32)
    if inputs.shape[1] < inputs.shape[2]:
        return np.asarray(transposed @ np.linalg.solve(inputs @ transposed + penalty, wanted), np.float32)
    return np.asarray(np.linalg.solve(transposed @ inputs + penalty, transposed @ wanted), np.float32)


@dataclass(frozen=True)
class _Grouped:
    """Rows in the `order` (n,) of their groups, and the run of each group in it."""

    order: NDArray[np.int64]
    runs: Runs


def _grouped(groups: Codes, n: int) -> _Grouped:
    counts = np.bincount(groups, minlength=n)
    return _Grouped(np.argsort(groups, kind="stable"), Runs(np.cumsum(counts) - counts, counts))


def _shrunk_means(groups: Codes, values: NDArray[Any], n: int, shrinkage: float) -> NDArray[np.float64]:
    return np.bincount(groups, values, n) / (np.bincount(groups, minlength=n) + shrinkage)
