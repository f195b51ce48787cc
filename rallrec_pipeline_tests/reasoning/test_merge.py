"""Eq. 10 and its rivals on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.merge import best_member, choose_consistency, consistency, stack, stack_features
from rallrec_pipeline.reasoning.opinions import Opinion, over_runs, over_traces

P = st.floats(0, 1)
VARIANCE = st.one_of(st.floats(0, 0.25), st.just(float("inf")))


@given(P, P, st.floats(0, 0.25), VARIANCE, st.floats(0, 1), st.sampled_from([1e-2, 1e-3, 1e-6]))
def test_a_merge_lies_between_its_sides(
    p_g: float, p_r: float, var_g: float, var_r: float, alpha: float, epsilon: float
) -> None:
    sides = (Opinion(np.array([p]), np.array([v])) for p, v in ((p_g, var_g), (p_r, var_r)))
    (merged,) = consistency(*sides, alpha, epsilon)
    assert min(p_g, p_r) - 1e-9 <= merged <= max(p_g, p_r) + 1e-9
    if np.isinf(var_r) or alpha == 0:
        assert merged == pytest.approx(p_g)


def test_the_steadier_side_has_more_say() -> None:
    general, steady, unsteady = (
        Opinion(np.array([p]), np.array([v])) for p, v in ((0.2, 0.01), (0.8, 0.0), (0.8, 0.2))
    )
    assert consistency(general, steady, 0.5, 1e-3)[0] > consistency(general, unsteady, 0.5, 1e-3)[0]


def test_alpha_and_epsilon_are_those_of_the_least_log_loss() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 400).astype(np.int8)
    right = np.clip(labels * 0.8 + 0.1 + rng.normal(0, 0.05, 400), 0.01, 0.99)
    chance = rng.uniform(0.3, 0.7, 400)
    zeros = np.zeros(400)
    assert choose_consistency(Opinion(chance, zeros), Opinion(right, zeros), labels)[0] == 1.0
    assert choose_consistency(Opinion(right, zeros), Opinion(chance, zeros), labels)[0] == 0.0
    with pytest.raises(DataError, match="no validation rows"):
        choose_consistency(Opinion(right[:0], zeros[:0]), Opinion(right[:0], zeros[:0]), labels[:0])


def test_variance_over_traces_and_runs_is_the_unbiased_one() -> None:
    rows, p = np.array([0, 0, 0, 2]), np.array([0.1, 0.4, 0.7, 0.9])
    found = over_traces(rows, p, np.array([0.5, 0.6, 0.5]))
    assert found.p_yes.tolist() == pytest.approx([0.4, 0.6, 0.9])
    assert found.variance.tolist() == pytest.approx([np.var(p[:3], ddof=1), np.inf, 0.0])
    runs = over_runs(np.array([0.2]), [np.array([0.4]), np.array([0.6])])
    assert runs.p_yes[0] == 0.2 and runs.variance[0] == pytest.approx(0.04)
    assert over_runs(np.array([0.2]), []).variance[0] == 0


def test_a_stack_never_looks_at_test_labels() -> None:
    rng = np.random.default_rng(2)
    valid = np.arange(300) < 200
    members = [Opinion(rng.uniform(0.05, 0.95, 300), np.full(300, v)) for v in (0.0, 0.01)]
    features = stack_features(members, rng.normal(size=(300, 2)))
    labels = (members[0].p_yes > 0.5).astype(np.int8)
    flipped = np.where(valid, labels, 1 - labels).astype(np.int8)
    first, other = stack(features, valid, labels), stack(features, valid, flipped)
    np.testing.assert_array_equal(first, other)
    assert np.mean((first > 0.5) == labels) > 0.9
    with pytest.raises(DataError, match="one class"):
        stack(features, valid, np.zeros(300, np.int8))


def test_a_member_that_was_not_asked_has_no_say_in_a_stack() -> None:
    p, variance = np.array([0.9, 0.9]), np.array([0.0, np.inf])
    (first,), (second,) = stack_features([Opinion(p, variance)], None)
    assert first > 2 and second == 0


def test_the_better_member_is_that_of_the_least_log_loss() -> None:
    labels = np.array([1, 0, 1, 0], np.int8)
    good, bad = (Opinion(np.array(p), np.zeros(4)) for p in ([0.8, 0.2, 0.7, 0.1], [0.4, 0.6, 0.5, 0.5]))
    assert best_member([bad, good], labels) == 1
