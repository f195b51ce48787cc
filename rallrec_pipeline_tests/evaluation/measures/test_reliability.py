"""Bins, ECE, histograms and ROC points against their definitions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures.metrics import area_under_roc
from rallrec_pipeline.evaluation.measures.reliability import (
    BINS,
    ROC_POINTS,
    bin_codes,
    histogram,
    reliability_curve,
    roc_points,
    told_reliability,
)
from rallrec_pipeline_tests.evaluation.examples import rows_of


def test_reliability_bins_hold_every_row_once_and_their_means() -> None:
    labels, p, _ = rows_of(1000, seed=2)
    curve = reliability_curve(labels, p)
    assert curve.counts.tolist() == [100] * BINS
    assert (curve.counts * curve.predicted).sum() == pytest.approx(p.sum())
    assert (curve.counts * curve.observed).sum() == pytest.approx(labels.sum())
    told = told_reliability(labels, p)
    assert [part["n"] for part in told] == [100] * BINS and told[0]["p"] < told[-1]["p"]


def test_reliability_of_a_constant_is_one_point() -> None:
    curve = reliability_curve([0, 1, 1, 0], [0.25] * 4)
    assert (curve.predicted.tolist(), curve.observed.tolist(), curve.counts.tolist()) == ([0.25], [0.5], [4])
    assert curve.ece() == 0.25


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(30, 400))
def test_bins_and_ece_are_those_of_scikit_learn(seed: int, rows: int) -> None:
    from sklearn.calibration import calibration_curve

    assume((rows - 1) % BINS)  # else edges fall on rows, and rounding decides which side these are on
    labels, p, _ = rows_of(rows, seed)
    curve = reliability_curve(labels, p)
    observed, predicted = calibration_curve(labels, p, n_bins=BINS, strategy="quantile")
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    in_order = np.argsort(p, kind="stable")
    codes = bin_codes(p)[in_order]
    assert (np.diff(codes) >= 0).all() and np.ptp(np.bincount(codes)) <= 1
    gaps = [abs((labels - p)[bin_codes(p) == code].sum()) for code in range(BINS)]
    assert curve.ece() == pytest.approx(sum(gaps) / rows)


def test_ece_is_small_where_p_is_what_happens_and_large_where_it_boasts() -> None:
    labels, p, _ = rows_of(20_000, seed=3, noise=0.0)
    sure = np.clip(p * 3 - 1, 0, 1)
    assert reliability_curve(labels, p).ece() < 0.015 < 0.1 < reliability_curve(labels, sure).ece()


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(2, 60), st.booleans())
def test_the_area_under_all_roc_points_is_the_auc(seed: int, rows: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, rows)].astype(np.int8)
    p = rng.random(rows + 2).round(1 if tied else 12)
    points = roc_points(labels, p)
    assert points is not None
    x, y = points["false_positive_rate"], points["true_positive_rate"]
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(area_under_roc(labels, p), abs=1e-5)


def test_a_thinned_roc_curve_keeps_its_ends_and_nearly_its_area() -> None:
    labels, p, _ = rows_of(20_000, seed=4)
    points = roc_points(labels, p)
    assert points is not None and len(points["true_positive_rate"]) == ROC_POINTS
    x, y = points["false_positive_rate"], points["true_positive_rate"]
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(area_under_roc(labels, p), abs=1e-3)


def test_one_class_or_no_row_has_no_roc_curve_and_an_honest_histogram() -> None:
    for labels in (np.ones(3, np.int8), np.zeros(3, np.int8), np.zeros(0, np.int8)):
        p = np.full(labels.size, 0.5)
        assert roc_points(labels, p) is None
        bars = histogram(labels, p)
        assert sum(bars["liked"]) == labels.sum() and sum(bars["liked"]) + sum(bars["disliked"]) == labels.size
    assert told_reliability(np.zeros(0, np.int8), np.zeros(0)) == []


def test_a_histogram_has_every_row_once_by_label() -> None:
    labels, p = np.array([1, 0, 1, 1], np.int8), np.array([0.0, 0.04, 1.0, 0.5])
    bars = histogram(labels, p)
    assert len(bars["edges"]) == 21 and bars["edges"][0] == 0 and bars["edges"][-1] == 1
    assert (bars["liked"][0], bars["disliked"][0], bars["liked"][10], bars["liked"][19]) == (1, 1, 1, 1)
    assert sum(bars["liked"]) == 3 and sum(bars["disliked"]) == 1
