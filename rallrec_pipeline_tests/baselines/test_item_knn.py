from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.baselines import item_knn
from rallrec_pipeline.baselines.item_knn import SIMILARITY_SHRINKAGE, co_rating, neighbours, text_likeness
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import Ratings


def ratings_of(dense: np.ndarray) -> Ratings:
    """The entries that are not 0, user by user."""
    users, items = np.nonzero(dense)
    return Ratings(users.astype(np.int32), items.astype(np.int32), dense[users, items].astype(np.float32))


def some_ratings(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 6, (30, 12)) * (rng.random((30, 12)) < 0.6)


def test_co_rating_is_the_shrunk_cosine_of_user_centred_ratings() -> None:
    dense = some_ratings()
    rated = (dense > 0).astype(float)
    centred = (dense - dense.sum(1, keepdims=True) / rated.sum(1, keepdims=True)) * rated
    norms = np.linalg.norm(centred, axis=0)
    common = rated.T @ rated
    wanted = np.maximum(centred.T @ centred / np.outer(norms, norms), 0) * common / (common + SIMILARITY_SHRINKAGE)
    found = co_rating(ratings_of(dense), 12)(np.arange(12, dtype=np.int32))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_where_all_ratings_are_alike_co_rating_is_the_cosine_of_who_has_touched_what() -> None:
    touched = (some_ratings() > 0).astype(int)
    targets = np.arange(12, dtype=np.int32)
    assert not co_rating(ratings_of(touched), 12)(targets).any()
    found = co_rating(ratings_of(touched), 12, centred=False)(targets)
    assert (found[~np.eye(12, dtype=bool)] > 0).all() and np.isfinite(found).all()


def test_an_item_without_ratings_is_like_nothing() -> None:
    found = co_rating(ratings_of(some_ratings()), 14)(np.array([13, 0], np.int32))
    assert not found[0].any() and not found[1, 12:].any()


def test_of_a_user_with_very_many_ratings_the_last_ones_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_knn, "MAX_OF_USER", 3)
    dense = np.array([[5, 4, 1, 2, 1], [5, 4, 0, 0, 1], [0, 0, 1, 2, 5]])
    found = co_rating(ratings_of(dense), 5)(np.arange(5, dtype=np.int32))
    assert found[0, 1] > 0, "by the second user"
    assert found[0, 2] == 0, "the first user's oldest are left out"


def test_likeness_of_texts_is_the_squared_cosine_of_centred_vectors() -> None:
    vectors = np.random.default_rng(0).normal(5, 1, (9, 6)).astype(np.float32)
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    found = text_likeness(vectors)(np.arange(9, dtype=np.int32))
    assert found == pytest.approx(np.maximum(unit @ unit.T, 0) ** 2, abs=1e-5)
    assert not text_likeness(np.ones((3, 2), np.float32))(np.arange(3, dtype=np.int32)).any(), "all texts alike"


def test_neighbours_are_the_nearest_of_the_history_and_the_later_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    near = np.array([[0, 0.5, 0.9, 0.5, 0.0], [0.2, 0, 0, 0, 0]], np.float32)
    items = np.array([1, 2, 3, 4, 0], np.int32)
    deviations = np.array([1, -1, 2, 5, 3], np.float32)
    histories = Runs(np.array([0, 3, 0, 0]), np.array([4, 2, 0, 1]))
    targets = np.array([0, 1, 1, 1], np.int32)
    for cells in (2**24, 1):  # all targets in one block, and each in its own
        monkeypatch.setattr(item_knn, "BLOCK_CELLS", cells)
        found = neighbours(lambda rows: near[rows], items, deviations, histories, targets, 5, (1, 2, 40))
        first = [-1, (0.9 * -1 + 0.5 * 2) / 1.4, (0.9 * -1 + 0.5 * 2 + 0.5 * 1) / 1.9]
        assert found.deviations == pytest.approx(np.array([first, [3, 3, 3], [0, 0, 0], [0, 0, 0]]), abs=1e-6)
        assert found.highest == pytest.approx([0.9, 0.2, 0, 0])
        assert found.total == pytest.approx([1.9, 0.2, 0, 0])
