from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures.calibration import fit_platt
from rallrec_pipeline.evaluation.measures.metrics import evaluate


def _miscalibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.3, 1, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(3 * logit + 2)))  # too sure, and leaning to yes


def test_platt_mends_a_miscalibrated_model_on_rows_it_has_not_seen() -> None:
    labels, p = _miscalibrated(4000, 0)
    platt = fit_platt(p[:2000], labels[:2000])
    raw, mended = evaluate(labels[2000:], p[2000:]), evaluate(labels[2000:], platt.apply(p[2000:]))
    assert mended.log_loss < raw.log_loss - 0.1
    assert mended.accuracy > raw.accuracy
    assert mended.auc == pytest.approx(raw.auc)
    assert platt.slope == pytest.approx(1 / 3, rel=0.15)
    assert platt.intercept == pytest.approx(-2 / 3, abs=0.15)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(4, 60))
def test_platt_keeps_order_and_stays_inside_zero_and_one(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(rows)
    calibrated = fit_platt(p, rng.integers(0, 2, rows)).apply(p)
    assert ((calibrated > 0) & (calibrated < 1)).all()
    assert (np.diff(calibrated[np.argsort(p)]) >= 0).all()


def test_platt_has_a_finite_fit_where_classes_are_separated_or_single() -> None:
    for labels in ([0, 0, 1, 1], [1, 1, 1, 1]):
        platt = fit_platt([0.1, 0.2, 0.8, 0.9], labels)
        assert np.isfinite([platt.slope, platt.intercept]).all()
        assert ((platt.apply([0.0, 1.0]) > 0) & (platt.apply([0.0, 1.0]) < 1)).all()


def test_a_ranking_worse_than_chance_is_not_turned_round() -> None:
    labels, p = _miscalibrated(1000, 1)
    calibrated = fit_platt(1 - p, labels).apply(1 - p)
    assert evaluate(labels, calibrated).auc < 0.5
    assert calibrated.mean() == pytest.approx(labels.mean(), abs=0.01)
