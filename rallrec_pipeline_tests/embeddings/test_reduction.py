import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.embeddings import reduction
from rallrec_pipeline.embeddings.reduction import reduce_dimensions


def planted(n: int = 60, d: int = 20, rank: int = 3) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 5).astype(np.float32)


def test_keeps_distances_of_low_rank_data() -> None:
    vectors = planted()
    reduced = reduce_dimensions(vectors, 3)
    assert reduced.shape == (60, 3)
    assert reduced.dtype == np.float32
    centred = vectors - vectors.mean(axis=0)
    assert np.allclose(reduced @ reduced.T, centred @ centred.T, atol=1e-3)


def test_components_are_sorted_centred_and_uncorrelated() -> None:
    reduced = reduce_dimensions(np.random.default_rng(1).normal(size=(200, 10)).astype(np.float32), 5)
    covariance = np.cov(reduced.T)
    assert np.allclose(reduced.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)
    assert (np.diff(np.diag(covariance)) <= 0).all()


def test_whitening_gives_unit_variance_and_leaves_empty_directions_at_zero() -> None:
    assert np.allclose(reduce_dimensions(planted(), 3, whiten=True).std(axis=0, ddof=1), 1, atol=1e-4)
    assert np.isfinite(reduce_dimensions(planted(), 10, whiten=True)).all()
    assert not reduce_dimensions(np.ones((4, 3), np.float32), 2, whiten=True).any()


def test_zero_dimensions_keeps_all() -> None:
    vectors = planted()
    assert np.allclose(reduce_dimensions(vectors, 0), vectors - vectors.mean(axis=0), atol=1e-4)


def test_never_more_columns_than_rows_or_columns() -> None:
    assert reduce_dimensions(planted(n=4), 128).shape == (4, 4)


def test_randomised_svd_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = planted(n=90, d=70, rank=5)
    exact = reduce_dimensions(vectors, 5)
    monkeypatch.setattr(reduction, "EXACT_SIDE", 1)
    randomised = reduce_dimensions(vectors, 5, seed=3)
    assert np.allclose(exact, randomised, atol=1e-2)
    assert (randomised == reduce_dimensions(vectors, 5, seed=3)).all()
