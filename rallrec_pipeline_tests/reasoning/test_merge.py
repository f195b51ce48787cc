"""Eq. 10 and its rivals on numbers whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.merge import best_member, choose_consistency, consistency, plain_mean, stack
from rallrec_pipeline.reasoning.opinions import Opinion, log_loss, over_runs, over_traces

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
    spread = np.var(p[:3], ddof=1)
    assert found.variance.tolist() == pytest.approx([spread, np.inf, spread])  # one trace says nothing of its spread
    runs = over_runs(np.array([0.2]), [np.array([0.4]), np.array([0.6])])
    assert runs.p_yes[0] == 0.2 and runs.variance[0] == pytest.approx(0.04)
    assert over_runs(np.array([0.2]), []).variance[0] == 0


def made(rows: int = 300, seed: int = 2) -> tuple[list[Opinion], np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Two members of which the first knows the labels, these labels, valid rows and users of three rows each."""
    rng = np.random.default_rng(seed)
    members = [Opinion(rng.uniform(0.05, 0.95, rows), np.full(rows, v)) for v in (0.0, 0.01)]
    labels = (members[0].p_yes > 0.5).astype(np.int8)
    return members, labels, np.arange(rows) < 2 * rows // 3, np.arange(rows) // 3


def test_a_stack_never_looks_at_test_labels() -> None:
    members, labels, valid, users = made()
    facts = np.random.default_rng(3).normal(size=(300, 2))
    flipped = np.where(valid, labels, 1 - labels).astype(np.int8)
    first, other = (stack(members, facts, valid, given, users) for given in (labels, flipped))
    np.testing.assert_array_equal(first, other)
    assert np.mean((first > 0.5) == labels) > 0.9
    with pytest.raises(DataError, match="one class"):
        stack(members, facts, valid, np.zeros(300, np.int8), users)


def test_valid_rows_have_the_answer_of_fits_that_left_their_user_out() -> None:
    """Else noise would look like knowledge there: a stack of noise is no better than chance on its own rows."""
    rng = np.random.default_rng(4)
    noise = [Opinion(rng.uniform(0.05, 0.95, 90), rng.uniform(0, 0.1, 90)) for _ in range(3)]
    labels, users = rng.integers(0, 2, 90).astype(np.int8), np.arange(90) // 3
    facts = rng.normal(size=(90, 6))
    p_yes = stack(noise, facts, np.ones(90, bool), labels, users)
    assert log_loss(labels, p_yes) > log_loss(labels, np.full(90, labels.mean()))
    changed = labels.copy()
    changed[:3] = 1 - changed[:3]
    np.testing.assert_array_equal(p_yes[:3], stack(noise, facts, np.ones(90, bool), changed, users)[:3])


def test_a_member_that_was_not_asked_has_no_say() -> None:
    members, labels, valid, users = made()
    unasked = np.arange(300) >= 250
    absent = Opinion(np.where(unasked, 0.001, members[1].p_yes), np.where(unasked, np.inf, 0.01))
    other = Opinion(np.where(unasked, 0.999, members[1].p_yes), absent.variance)
    first, second = (stack([members[0], one], None, valid, labels, users) for one in (absent, other))
    np.testing.assert_array_equal(first, second)
    alone = stack(members[:1], None, valid, labels, users)
    np.testing.assert_allclose(first[unasked], alone[unasked])
    np.testing.assert_array_equal(plain_mean([members[0], absent])[unasked], members[0].p_yes[unasked])


def test_the_better_member_is_that_of_the_least_log_loss() -> None:
    labels = np.array([1, 0, 1, 0], np.int8)
    good, bad = (Opinion(np.array(p), np.zeros(4)) for p in ([0.8, 0.2, 0.7, 0.1], [0.4, 0.6, 0.5, 0.5]))
    assert best_member([bad, good], labels) == 1
