from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.evaluation import significance
from rallrec_pipeline.evaluation.metrics import METRICS, evaluate
from rallrec_pipeline.evaluation.significance import Difference, Interval, bootstrap_metrics, differences, intervals

Array = NDArray[Any]


def _rows(n: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the calibrated probabilities they were drawn from, with noise on the logit."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(logit + rng.normal(0, noise, n))))


def bootstrap_intervals(labels: Array, p: Array, resamples: int, seed: int = 0) -> dict[str, Interval]:
    return intervals(bootstrap_metrics(labels, {"method": p}, resamples, seed)["method"])


def paired_bootstrap(
    labels: Array, p_first: Array, p_second: Array, resamples: int, seed: int = 0
) -> dict[str, Difference]:
    """First minus second on the same rows."""
    samples = bootstrap_metrics(labels, {"first": p_first, "second": p_second}, resamples, seed)
    point = evaluate(labels, p_first).as_array() - evaluate(labels, p_second).as_array()
    return differences(samples["first"], samples["second"], point)


@pytest.mark.parametrize("decimals", [1, 12])
def test_each_resample_equals_metrics_of_the_drawn_rows(decimals: int) -> None:
    labels, p = _rows(80, seed=1)
    p = p.round(decimals)
    fast = bootstrap_metrics(labels, {"a": p}, resamples=25, seed=7)["a"]
    rng = np.random.default_rng(7)
    for row in fast:
        drawn = rng.integers(0, 80, size=80)
        np.testing.assert_allclose(row, evaluate(labels[drawn], p[drawn]).as_array(), rtol=1e-9)


def test_chunks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, p = _rows(60, seed=2)
    whole = bootstrap_metrics(labels, {"a": p}, resamples=30, seed=3)["a"]
    monkeypatch.setattr(significance, "_CELLS", 7 * 60)
    chunked = bootstrap_metrics(labels, {"a": p}, resamples=30, seed=3)["a"]
    np.testing.assert_allclose(chunked, whole, rtol=1e-12)


def test_intervals_cover_the_true_values_about_as_often_as_they_say() -> None:
    labels, p = _rows(200_000, seed=3)
    truth = evaluate(labels, p)
    covered = dict.fromkeys(METRICS, 0)
    for start in range(0, 200 * 400, 400):
        part = slice(start, start + 400)
        found = bootstrap_intervals(labels[part], p[part], resamples=200, seed=start)
        for name in METRICS:
            covered[name] += found[name].low <= getattr(truth, name) <= found[name].high
    for name, hits in covered.items():
        assert 0.88 <= hits / 200 <= 0.99, name


def test_standard_error_of_accuracy_is_the_binomial_one() -> None:
    labels, p = _rows(2000, seed=4)
    accuracy = evaluate(labels, p).accuracy
    se = bootstrap_intervals(labels, p, resamples=1000, seed=5)["accuracy"].se
    assert se == pytest.approx((accuracy * (1 - accuracy) / 2000) ** 0.5, rel=0.1)


def test_a_method_does_not_differ_from_itself() -> None:
    labels, p = _rows(100, seed=5)
    for difference in paired_bootstrap(labels, p, p, resamples=50).values():
        assert (difference.difference, difference.se, difference.p_value) == (0, 0, 1)


def test_pairing_finds_a_small_difference_that_single_errors_would_hide() -> None:
    labels, p = _rows(3000, seed=6, noise=0.1)
    worse = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + np.random.default_rng(8).normal(0, 0.4, p.size))))
    auc = paired_bootstrap(labels, p, worse, resamples=500, seed=9)["auc"]
    assert 0 < auc.difference < 3 * bootstrap_intervals(labels, p, 500, 9)["auc"].se
    assert auc.low > 0 and auc.p_value < 0.01
    back = paired_bootstrap(labels, worse, p, resamples=500, seed=9)["auc"]
    assert back.difference == pytest.approx(-auc.difference) and back.p_value == auc.p_value


def test_p_values_of_equally_good_methods_are_spread_evenly() -> None:
    small = 0
    for seed in range(200):
        labels, _ = _rows(150, seed)
        rng = np.random.default_rng(seed + 1000)
        found = paired_bootstrap(labels, rng.random(150), rng.random(150), resamples=200, seed=seed)
        small += found["auc"].p_value < 0.2
    assert 20 <= small <= 64  # expected 40, four binomial standard errors and a little for the small resamples


def test_resamples_of_one_class_are_left_out_of_the_error() -> None:
    found = bootstrap_intervals(np.array([0, 1, 1]), np.array([0.1, 0.9, 0.4]), resamples=200)
    assert np.isfinite([found["auc"].se, found["auc"].low, found["auc"].high]).all()
