"""Paired differences, their p, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures.bootstrap import COLUMNS, Scores, bootstrap, measure, rows_as_clusters
from rallrec_pipeline.evaluation.measures.metrics import Floats
from rallrec_pipeline.evaluation.measures.significance import (
    Difference,
    difference,
    holm,
    interval,
    reflected,
    smallest_p,
)
from rallrec_pipeline_tests.evaluation.examples import rows_of

AUC = COLUMNS.index("auc")


def paired(labels: np.ndarray, first: Floats, second: Floats, resamples: int, seed: int = 0) -> dict[str, Difference]:
    """First minus second on the same resamples of rows."""
    both = {"first": Scores(first, first), "second": Scores(second, second)}
    samples = bootstrap(labels, both, rows_as_clusters(labels.size), resamples, seed)
    point = measure(labels, both["first"], None) - measure(labels, both["second"], None)
    found = {}
    for name in ("auc", "log_loss", "accuracy", "brier"):
        column = COLUMNS.index(name)
        one, other = (samples[method][:, column] for method in both)
        found[name] = difference(one, other, float(point[column]))
    return found


def test_a_method_does_not_differ_from_itself() -> None:
    labels, p, _ = rows_of(100, seed=5)
    for found in paired(labels, p, p, resamples=50).values():
        assert (found.difference, found.se, found.p_value) == (0, 0, 1)


def test_pairing_finds_a_small_difference_that_single_errors_would_hide() -> None:
    labels, p, _ = rows_of(3000, seed=6, noise=0.1)
    worse = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + np.random.default_rng(8).normal(0, 0.4, p.size))))
    auc = paired(labels, p, worse, resamples=500, seed=9)["auc"]
    alone = bootstrap(labels, {"a": Scores(p, p)}, rows_as_clusters(p.size), 500, seed=9)["a"][:, AUC]
    assert 0 < auc.difference < 3 * interval(alone).se
    assert auc.low > 0 and auc.p_value < 0.01
    back = paired(labels, worse, p, resamples=500, seed=9)["auc"]
    assert back.difference == pytest.approx(-auc.difference) and back.p_value == auc.p_value


def test_p_values_of_equally_good_methods_are_spread_evenly() -> None:
    small = 0
    for seed in range(200):
        labels, _, _ = rows_of(300, seed)
        rng = np.random.default_rng(seed + 1000)
        found = paired(labels, rng.random(300), rng.random(300), resamples=100, seed=seed)
        small += found["auc"].p_value < 0.2
    assert 20 <= small <= 64  # expected 40, four binomial standard errors and a little for the small resamples


def test_resamples_of_one_class_are_left_out_of_the_error() -> None:
    labels, p = np.array([0, 1, 1], np.int8), np.array([0.1, 0.9, 0.4])
    found = interval(bootstrap(labels, {"a": Scores(p, p)}, rows_as_clusters(3), 200, 0)["a"][:, AUC])
    assert np.isfinite([found.se, found.low, found.high]).all()


@pytest.mark.parametrize("resamples", [9, 39])
def test_p_is_no_smaller_than_chance_at_its_smallest(resamples: int) -> None:
    draws = np.random.default_rng(4).normal(size=(20_000, resamples))
    observed = np.random.default_rng(5).normal(size=20_000)
    p = [
        difference(own + point, np.zeros(resamples), point).p_value for own, point in zip(draws, observed, strict=True)
    ]
    least = smallest_p(resamples)
    assert min(p) == pytest.approx(least) and np.mean(np.array(p) <= least + 1e-12) == pytest.approx(least, rel=0.2)


def test_fewer_than_two_resamples_give_no_error_and_no_p() -> None:
    for values in ([], [0.3], [0.3, np.nan]):
        none = interval(np.array(values))
        assert np.isnan([none.se, none.low, none.high]).all()
        found = difference(np.array(values), np.zeros(len(values)), 0.3)
        assert found.difference == 0.3 and np.isnan([found.se, found.low, found.high, found.p_value]).all()


def test_the_interval_of_a_measure_that_noise_raises_is_mirrored_and_never_below_zero() -> None:
    found = reflected(np.linspace(0.04, 0.08, 101), 0.05)
    assert (found.low, found.high) == (pytest.approx(0.021), pytest.approx(0.059))
    raised = reflected(np.linspace(0.1, 0.2, 11), 0.05)
    assert (raised.low, raised.high) == (0, 0.05)
    assert np.isnan(reflected(np.zeros(1), 0.05).high)


def test_holm_by_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []
    assert holm([float("nan"), 0.02])[1] == 0.02 and np.isnan(holm([float("nan"), 0.02])[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= max(p, min(1, p * len(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
