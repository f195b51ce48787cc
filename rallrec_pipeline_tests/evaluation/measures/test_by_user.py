"""UAUC and GAUC against scikit-learn, user by user."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures.by_user import auc_by_user, gauc, uauc
from rallrec_pipeline_tests.evaluation.examples import rows_of


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 80), st.integers(1, 12), st.booleans())
def test_each_users_auc_is_that_of_scikit_learn(seed: int, rows: int, users: int, tied: bool) -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    labels, p = rng.integers(0, 2, rows).astype(np.int8), rng.random(rows)
    p, of = p.round(1) if tied else p, rng.integers(0, users, rows)
    found = auc_by_user(of, labels, p, users)
    expected, weights = [], []
    for user in range(users):
        own = of == user
        if np.unique(labels[own]).size < 2:
            assert np.isnan(found[user])
            continue
        expected.append(roc_auc_score(labels[own], p[own]))
        weights.append(own.sum())
        assert found[user] == pytest.approx(expected[-1])
    if not expected:
        assert np.isnan(uauc(of, labels, p)) and np.isnan(gauc(of, labels, p))
        return
    assert uauc(of, labels, p) == pytest.approx(np.mean(expected))
    assert gauc(of, labels, p) == pytest.approx(np.average(expected, weights=weights))


def test_a_method_that_knows_only_who_rates_kindly_ranks_no_item() -> None:
    labels, _, users = rows_of(2000, seed=1, users=50)
    kindness = np.array([labels[users == user].mean() for user in range(50)])[users]
    assert uauc(users, labels, kindness) == gauc(users, labels, kindness) == 0.5


def test_any_rising_change_of_p_leaves_it_as_it_is() -> None:
    labels, p, users = rows_of(500, seed=2, users=20)
    assert uauc(users, labels, p) == uauc(users, labels, p**3) == uauc(users, labels, 0.5 + p / 4)


def test_without_rows_nothing_is_defined() -> None:
    none = np.zeros(0, np.int64)
    assert np.isnan(uauc(none, none.astype(np.int8), none.astype(float)))
