"""The bootstrap against drawing users and rows one by one, and against what theory says of its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures import bootstrap as module
from rallrec_pipeline.evaluation.measures.bootstrap import (
    COLUMNS,
    Clusters,
    Scores,
    bootstrap,
    measure,
    rows_as_clusters,
    users_as_clusters,
)
from rallrec_pipeline.evaluation.measures.metrics import MEASURES, RAW, Floats
from rallrec_pipeline.evaluation.measures.reliability import bin_codes
from rallrec_pipeline_tests.evaluation.examples import rows_of

AUC, UAUC, ECE = (COLUMNS.index(name) for name in ("auc", "uauc", "ece"))


def drawn_clusters(clusters: int, resamples: int, seed: int) -> list[np.ndarray]:
    """Which clusters each resample draws."""
    return list(np.random.default_rng(seed).integers(0, clusters, size=(resamples, clusters)))


def rows_of_clusters(clusters: Clusters, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the drawn clusters, each as often as drawn, and the user that each is of: one drawn twice is two."""
    parts = [np.flatnonzero(clusters.codes == cluster) for cluster in drawn]
    users = [np.full(part.size, number) for number, part in enumerate(parts)]
    return np.concatenate(parts), np.concatenate(users)


@pytest.mark.parametrize("decimals", [1, 12])
def test_each_resample_of_users_has_the_measures_of_the_drawn_users(decimals: int) -> None:
    labels, p, users = rows_of(150, seed=1, users=20)
    scores = Scores(p.round(decimals), np.clip(p * 0.9, 0, 1), p)
    clusters = users_as_clusters(users)
    found = bootstrap(labels, {"a": scores}, clusters, 25, seed=7)["a"]
    for got, drawn in zip(found, drawn_clusters(20, 25, 7), strict=True):
        rows, drawn_users = rows_of_clusters(clusters, drawn)
        part = Scores(scores.given[rows], scores.calibrated[rows], p[rows])
        expected = measure(labels[rows], part, drawn_users)
        for column, calibrated in ((ECE, scores.calibrated), (COLUMNS.index("ece_raw"), p)):
            bins, gaps = bin_codes(calibrated)[rows], (labels - calibrated)[rows]  # the bins are those of all rows
            expected[column] = np.abs(np.bincount(bins, gaps)).sum() / rows.size
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_each_resample_of_rows_has_the_measures_of_the_drawn_rows_but_for_those_of_users() -> None:
    labels, p, _ = rows_of(80, seed=1)
    found = bootstrap(labels, {"a": Scores(p, p)}, rows_as_clusters(80), 25, seed=7)["a"]
    others = [COLUMNS.index(name) for name in ("auc", "log_loss", "accuracy", "brier")]
    for got, drawn in zip(found, drawn_clusters(80, 25, 7), strict=True):
        expected = measure(labels[drawn], Scores(p[drawn], p[drawn]), None)
        np.testing.assert_allclose(got[others], expected[others], rtol=1e-9)
    assert np.isnan(found[:, [COLUMNS.index(name) for name in ("uauc", "gauc", *RAW)]]).all()


def test_above_many_clusters_the_auc_of_first_order_is_that_of_the_resample() -> None:
    labels, p, users = rows_of(3000, seed=2, users=400)
    clusters = users_as_clusters(users)
    exact = bootstrap(labels, {"a": Scores(p, p)}, clusters, 300, seed=3, exact=400)["a"][:, AUC]
    first_order = bootstrap(labels, {"a": Scores(p, p)}, clusters, 300, seed=3)["a"][:, AUC]
    assert np.abs(first_order - exact).max() < 0.2 * exact.std()
    assert np.corrcoef(first_order, exact)[0, 1] > 0.999
    assert first_order.std() == pytest.approx(exact.std(), rel=0.02)


def test_measures_at_once_are_those_of_a_resample_that_draws_every_cluster_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, p, users = rows_of(200, seed=3, users=30)
    scores = Scores(p.round(2), p, p**2)
    monkeypatch.setattr(module, "draws", lambda clusters, resamples, rng: [np.ones((resamples, clusters))])
    for exact in (0, 1000):
        (once,) = bootstrap(labels, {"a": scores}, users_as_clusters(users), 1, seed=0, exact=exact)["a"]
        np.testing.assert_allclose(once, measure(labels, scores, users), rtol=1e-9)


def test_chunks_change_no_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, p, users = rows_of(90, seed=2, users=30)
    whole = bootstrap(labels, {"a": Scores(p, p)}, users_as_clusters(users), 30, seed=3)["a"]
    monkeypatch.setattr(module, "_CELLS", 7 * 30)
    chunked = bootstrap(labels, {"a": Scores(p, p)}, users_as_clusters(users), 30, seed=3)["a"]
    np.testing.assert_allclose(chunked, whole, rtol=1e-12)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 8), st.booleans())
def test_any_rows_have_measures_within_their_bounds_or_nan(seed: int, rows: int, users: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    labels, p = rng.integers(0, 2, rows).astype(np.int8), rng.random(rows)
    p = p.round(1) if tied else p
    users_of_rows = rng.integers(0, users, rows)
    for clusters in (users_as_clusters(users_of_rows), rows_as_clusters(rows)):
        found = bootstrap(labels, {"a": Scores(p, p, p)}, clusters, 10, seed=1)["a"]
        for column, name in enumerate(COLUMNS):
            known = found[np.isfinite(found[:, column]), column]
            assert (known >= -1e-12).all(), name
            assert "log_loss" in name or (known <= 1 + 1e-12).all(), name
        assert np.isfinite(found[:, AUC]).any() <= (np.unique(labels).size == 2)


def test_intervals_over_rows_cover_the_true_value_about_as_often_as_they_say() -> None:
    labels, p, _ = rows_of(200_000, seed=3)
    truth = measure(labels, Scores(p, p), None)
    covered = np.zeros(len(COLUMNS))
    for start in range(0, 200 * 400, 400):
        part = slice(start, start + 400)
        found = bootstrap(labels[part], {"a": Scores(p[part], p[part])}, rows_as_clusters(400), 200, start)["a"]
        low, high = np.quantile(found, (0.025, 0.975), axis=0)
        covered += (low <= truth) & (truth <= high)
    for name in ("auc", "log_loss", "accuracy", "brier"):
        assert 0.88 <= covered[COLUMNS.index(name)] / 200 <= 0.99, name


def test_intervals_over_users_cover_the_truth_where_those_over_rows_are_too_narrow() -> None:
    """Rows of a user are alike: half of what tells users apart is unknown to p."""
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(40), 25)
    hits = {"users": 0, "rows": 0}
    truth = np.mean([_kind_users(rng, users)[2] for _ in range(300)])
    for seed in range(100):
        labels, p, _ = _kind_users(rng, users)
        for name, clusters in (("users", users_as_clusters(users)), ("rows", rows_as_clusters(users.size))):
            found = bootstrap(labels, {"a": Scores(p, p)}, clusters, 200, seed)["a"][:, AUC]
            low, high = np.quantile(found, (0.025, 0.975))
            hits[name] += bool(low <= truth <= high)
    assert hits["users"] >= 86 and hits["rows"] < 80


def _kind_users(rng: np.random.Generator, users: np.ndarray) -> tuple[np.ndarray, Floats, float]:
    kindness = rng.normal(0, 1.5, 40)
    logit = rng.normal(0, 1, users.size) + kindness[users]
    labels = (rng.random(users.size) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    p = 1 / (1 + np.exp(-(logit - kindness[users] + rng.normal(0, 1, 40)[users])))
    return labels, p, float(measure(labels, Scores(p, p), None)[AUC])


def test_standard_error_of_accuracy_is_the_binomial_one() -> None:
    labels, p, _ = rows_of(2000, seed=4)
    column = MEASURES.index("accuracy")
    accuracy = measure(labels, Scores(p, p), None)[column]
    se = bootstrap(labels, {"a": Scores(p, p)}, rows_as_clusters(2000), 1000, seed=5)["a"][:, column].std()
    assert se == pytest.approx((accuracy * (1 - accuracy) / 2000) ** 0.5, rel=0.1)


def test_standard_error_of_uauc_is_that_of_a_mean_over_users() -> None:
    labels, p, users = rows_of(4000, seed=5, users=100)
    found = bootstrap(labels, {"a": Scores(p, p)}, users_as_clusters(users), 1000, seed=5)["a"][:, UAUC]
    each = [measure(labels[users == u], Scores(p[users == u], p[users == u]), None)[AUC] for u in range(100)]
    assert found.std() == pytest.approx(np.nanstd(each) / 10, rel=0.1)
