from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.metrics import evaluate


@given(st.integers(0, 2**31), st.integers(2, 60), st.booleans())
def test_auc_is_the_share_of_rightly_ordered_pairs(seed: int, rows: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(0, 2, rows)]
    p = rng.random(rows + 2)
    p = np.round(p, 1) if tied else p
    pairs = [(yes, no) for yes in p[labels == 1] for no in p[labels == 0]]
    expected = sum((yes > no) + 0.5 * (yes == no) for yes, no in pairs) / len(pairs)
    assert evaluate(labels, p).auc == pytest.approx(expected)


@given(st.integers(0, 2**31))
def test_log_loss_and_accuracy_follow_their_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, p = np.r_[0, 1, rng.integers(0, 2, 50)], rng.uniform(0.01, 0.99, 52)
    metrics = evaluate(labels, p)
    likelihood = np.where(labels == 1, p, 1 - p)
    assert metrics.log_loss == pytest.approx(-np.log(likelihood).mean())
    assert metrics.accuracy == pytest.approx((likelihood > 0.5).mean())


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    assert evaluate([0, 1], [1.0, 1.0]).log_loss == pytest.approx(-math.log(1e-7) / 2, rel=1e-6)


def test_a_half_is_not_a_yes() -> None:
    assert evaluate([0, 1], [0.5, 0.5]).accuracy == 0.5


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        ([1, 1], [0.2, 0.3], "all 2 labels are 1"),
        ([0, 1], [0.2, math.nan], "1 of 2 values of p_yes"),
        ([0, 1], [0.2, 1.5], "1 of 2 values of p_yes"),
        ([0, 1], [0.2], "shape"),
        ([0, 3], [0.2, 0.4], "labels must be 0 or 1"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused_in_one_line(labels: list[int], p: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        evaluate(labels, p)
    assert "\n" not in str(error.value)
