from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.baselines.factorisation import (
    FACTORS,
    ITEM_SHRINKAGE,
    RIDGE,
    USER_SHRINKAGE,
    Factorisation,
    fit_factorisation,
    ridge,
)
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import Ratings


def low_rank(users: int = 60, items: int = 40, seed: int = 0) -> tuple[Ratings, np.ndarray]:
    """Half of the ratings of a rank-2 matrix with biases, and the whole matrix."""
    rng = np.random.default_rng(seed)
    whole = 3 + rng.normal(0, 0.5, (users, 1)) + rng.normal(0, 0.5, items)
    whole = whole + rng.normal(0, 1, (users, 2)) @ rng.normal(0, 1, (2, items))
    known = np.argwhere(rng.random((users, items)) < 0.5).astype(np.int32)
    values = whole[known[:, 0], known[:, 1]].astype(np.float32)
    return Ratings(known[:, 0], known[:, 1], values), whole


def model(items: int = 50, seed: int = 0) -> Factorisation:
    rng = np.random.default_rng(seed)
    return Factorisation(
        3.0, rng.normal(0, 0.3, items).astype(np.float32), rng.normal(0, 1, (items, FACTORS)).astype(np.float32)
    )


@pytest.mark.parametrize("length", [1, 5, FACTORS - 1, FACTORS, 45])  # both systems of equations
def test_folding_a_user_in_equals_the_closed_form(length: int) -> None:
    known, rng = model(), np.random.default_rng(length)
    items = rng.permutation(50).astype(np.int32)
    ratings = rng.integers(1, 6, 50).astype(np.float32)
    history, target = items[:length], items[-1]
    above = ratings[:length].astype(np.float64) - 3.0 - known.biases[history]
    bias = above.sum() / (length + USER_SHRINKAGE)
    inputs = known.factors[history].astype(np.float64)
    taste = np.linalg.inv(inputs.T @ inputs + RIDGE * np.eye(FACTORS)) @ inputs.T @ (above - bias)
    found = known.opinions(items, ratings, Runs(np.array([0]), np.array([length])), np.array([target], np.int32))
    assert found.bias[0] == pytest.approx(3.0 + known.biases[target] + bias, abs=1e-4)
    assert found.rating[0] == pytest.approx(found.bias[0] + taste @ known.factors[target], abs=1e-3)


def test_without_a_history_or_ratings_only_biases_speak() -> None:
    known = model()
    nothing = Runs(np.zeros(2, np.int64), np.zeros(2, np.int64))
    found = known.opinions(np.zeros(0, np.int32), np.zeros(0, np.float32), nothing, np.array([1, 2], np.int32))
    assert found.rating == pytest.approx(3.0 + known.biases[[1, 2]])
    empty = Ratings(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    unfitted = fit_factorisation(empty, 3, seed=0, without=2.5)
    assert unfitted.mean == 2.5 and not unfitted.biases.any() and not unfitted.factors.any()


def test_item_biases_are_shrunk_means_and_an_unrated_item_has_none() -> None:
    ratings = Ratings(np.array([0, 1], np.int32), np.array([0, 1], np.int32), np.array([5, 1], np.float32))
    found = fit_factorisation(ratings, 3, seed=0)
    assert found.mean == 3
    assert found.biases == pytest.approx([2 / (1 + ITEM_SHRINKAGE), -2 / (1 + ITEM_SHRINKAGE), 0])
    assert not found.factors[2].any()


def test_factors_find_what_biases_cannot() -> None:
    ratings, whole = low_rank()
    found = fit_factorisation(ratings, 40, seed=0)
    counts = np.bincount(ratings.users, minlength=60)
    histories = Runs(np.cumsum(counts) - counts, counts)
    unknown = np.ones(whole.shape, bool)
    unknown[ratings.users, ratings.items] = False
    errors = {"rating": [], "bias": []}
    for item in range(40):
        opinion = found.opinions(ratings.items, ratings.values, histories, np.full(60, item, np.int32))
        for kind, off in errors.items():
            off.extend((getattr(opinion, kind) - whole[:, item])[unknown[:, item]])
    error = {kind: float(np.mean(np.square(off))) for kind, off in errors.items()}
    assert error["rating"] < error["bias"] / 2


def test_the_order_of_the_ratings_changes_nothing_but_rounding() -> None:
    ratings, _ = low_rank()
    order = np.random.default_rng(1).permutation(len(ratings))
    mixed = Ratings(ratings.users[order], ratings.items[order], ratings.values[order])
    first, second = (fit_factorisation(given, 40, seed=0) for given in (ratings, mixed))
    assert first.biases == pytest.approx(second.biases, abs=1e-5)
    assert first.factors == pytest.approx(second.factors, abs=1e-3)


def test_many_runs_at_once_are_solved_as_each_alone() -> None:
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(30, 4)).astype(np.float32)
    columns, values = rng.integers(0, 30, 200).astype(np.int32), rng.normal(size=200).astype(np.float32)
    lengths = rng.integers(0, 12, 40)
    runs = Runs(rng.integers(0, 180, 40), lengths)
    together = ridge(factors, columns, values, runs)
    for row in range(40):
        alone = ridge(factors, columns, values, Runs(runs.starts[[row]], runs.lengths[[row]]))
        assert together[row] == pytest.approx(alone[0], abs=1e-5)
    assert not together[lengths == 0].any()
