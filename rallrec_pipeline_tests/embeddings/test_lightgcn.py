from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.lightgcn import LightGCNResult, Ratings, train_lightgcn, warm_start
from rallrec_pipeline.embeddings.lightgcn_trainer import WarmStart
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.settings import CollaborativeSettings

N_USERS, N_ITEMS, BLOCKS = 40, 20, 2
Interactions = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


def blocks(rated_alike: bool) -> Interactions:
    """Users of block b rate items of b only, or, where `rated_alike` is false, rate b's 5 and the others 1."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.7)
    own = users % BLOCKS == items % BLOCKS
    if rated_alike:
        users, items = users[own], items[own]
        return users.astype(np.int32), items.astype(np.int32), np.full(len(users), 4, np.float32)
    return users.astype(np.int32), items.astype(np.int32), np.where(own, 5, 1).astype(np.float32)


def ratings_of(data: Interactions, n_items: int = N_ITEMS) -> Ratings:
    return Ratings(*data, [f"u{n}" for n in range(N_USERS)], [f"i{n}" for n in range(n_items)])


def fit(
    data: Interactions, graph: Literal["binary", "signed"], seed: int = 0, start: WarmStart | None = None
) -> LightGCNResult:
    settings = CollaborativeSettings(graph=graph, dimensions=8, epochs=40, batch_size=64, learning_rate=0.02)
    return train_lightgcn(ratings_of(data), settings, seed, start=start)


@pytest.mark.parametrize(("graph", "rated_alike"), [("binary", True), ("signed", False)])
def test_finds_planted_blocks(graph: Literal["binary", "signed"], rated_alike: bool) -> None:
    result = fit(blocks(rated_alike), graph)
    vectors = unit_rows(result.item_vectors)
    cosines = vectors @ vectors.T
    same = np.equal.outer(np.arange(N_ITEMS) % BLOCKS, np.arange(N_ITEMS) % BLOCKS)
    assert cosines[same & ~np.eye(N_ITEMS, dtype=bool)].min() > cosines[~same].max()
    assert result.losses[-1] < result.losses[0]
    assert len(result.scores) == len(result.losses)
    assert 1 <= result.best_epoch <= len(result.losses)


def test_the_binary_graph_does_not_look_at_ratings() -> None:
    users, items, ratings = blocks(rated_alike=False)
    first = fit((users, items, ratings), "binary").item_vectors
    assert (first == fit((users, items, 6 - ratings), "binary").item_vectors).all()


@pytest.mark.parametrize("graph", ["binary", "signed"])
def test_same_seed_same_vectors(graph: Literal["binary", "signed"]) -> None:
    data = blocks(rated_alike=False)
    first = fit(data, graph, seed=3)
    torch.manual_seed(99)
    second = fit(data, graph, seed=3)
    assert (first.item_vectors == second.item_vectors).all()
    assert (first.user_vectors == second.user_vectors).all()
    assert (first.item_vectors != fit(data, graph, seed=4).item_vectors).any()


def test_items_without_interactions_get_a_zero_vector_and_the_rest_stay_finite() -> None:
    users, items, ratings = blocks(rated_alike=False)
    settings = CollaborativeSettings(dimensions=4, epochs=3)
    vectors = train_lightgcn(ratings_of((users, items, ratings), N_ITEMS + 2), settings, 0).item_vectors
    assert vectors.shape == (N_ITEMS + 2, 4)
    assert np.isfinite(vectors).all()
    assert not vectors[N_ITEMS:].any()
    assert vectors[:N_ITEMS].any(axis=1).all()


def test_ratings_that_are_all_equal_are_no_error_in_the_signed_graph() -> None:
    users, items, _ = blocks(rated_alike=True)
    assert np.isfinite(fit((users, items, np.full(len(users), 3, np.float32)), "signed").item_vectors).all()


def test_no_interactions_is_a_data_error() -> None:
    nothing = np.zeros(0, np.int32)
    with pytest.raises(DataError, match="no training interactions"):
        train_lightgcn(ratings_of((nothing, nothing, np.zeros(0, np.float32))), CollaborativeSettings(), 0)


def test_stops_after_patience_epochs_without_a_better_score() -> None:
    settings = CollaborativeSettings(graph="signed", dimensions=8, epochs=300, patience=2, learning_rate=0.05)
    result = train_lightgcn(ratings_of(blocks(rated_alike=False)), settings, 0)
    assert len(result.losses) in (result.best_epoch + 2, 300)


def test_a_stretch_in_which_recall_stands_still_does_not_end_a_fit() -> None:
    """At first all users are shown the most popular items; what is held out still becomes more likely."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_blocks = 60, 120, 4
    share = np.linspace(0.9, 0.05, n_items)  # of the users of its block who rate an item
    own = np.arange(n_users)[:, None] % n_blocks == np.arange(n_items) % n_blocks
    users, items = np.nonzero(rng.random((n_users, n_items)) < np.where(own, share, share / 10))
    ids = [f"u{n}" for n in range(n_users)], [f"i{n}" for n in range(n_items)]
    ratings = Ratings(users.astype(np.int32), items.astype(np.int32), np.ones(len(users), np.float32), *ids)
    settings = CollaborativeSettings(graph="binary", dimensions=8, epochs=60, learning_rate=0.005, patience=4)
    scores = train_lightgcn(ratings, settings, 0).scores
    rises = np.flatnonzero(np.diff(np.maximum.accumulate(scores)) > 0) + 1
    assert np.diff(rises, prepend=0).max() > settings.patience, "the old rule would have ended it"
    assert max(scores) > scores[0] + 0.05


IDS = st.lists(st.text(max_size=3), unique=True, max_size=8)


@given(IDS, IDS, IDS, IDS, st.sets(st.text(max_size=3), max_size=3))
def test_weights_go_to_the_ids_they_were_of(
    old_users: list[str], old_items: list[str], users: list[str], items: list[str], forgotten: set[str]
) -> None:
    nothing = np.zeros(0, np.int32)
    ratings = Ratings(nothing, nothing, np.zeros(0, np.float32), users, items)
    old = [("user", name) for name in old_users] + [("item", name) for name in old_items]
    new = [("user", name) for name in users] + [("item", name) for name in items]
    start = warm_start(np.arange(len(old), dtype=np.float32)[:, None], old_users, old_items, ratings, forgotten)
    found = {new[row]: old[int(weight)] for row, (weight,) in zip(start.rows, start.weights, strict=True)}
    wanted = {entry for entry in set(old) & set(new) if entry[0] == "user" or entry[1] not in forgotten}
    assert found == {entry: entry for entry in wanted}


def test_what_has_no_weights_starts_as_it_would_cold() -> None:
    data = ratings_of(blocks(rated_alike=False))
    still = CollaborativeSettings(graph="signed", dimensions=8, epochs=1, learning_rate=1e-30)
    cold = train_lightgcn(data, still, 3).weights
    start = WarmStart(np.array([1, N_USERS + 2]), np.full((2, 8), 0.5, np.float32))
    warm = train_lightgcn(data, still, 3, start=start).weights
    given_rows = np.isin(np.arange(len(cold)), start.rows)
    assert (warm[~given_rows] == cold[~given_rows]).all() and np.allclose(warm[given_rows], 0.5)


@pytest.mark.parametrize("graph", ["binary", "signed"])
def test_a_warm_fit_is_deterministic_and_as_good(graph: Literal["binary", "signed"]) -> None:
    users, items, values = blocks(rated_alike=False)
    earlier = fit((users[:-20], items[:-20], values[:-20]), graph)
    data = ratings_of((users, items, values))
    start = warm_start(earlier.weights, data.user_ids, data.item_ids, data)
    warm, again = (fit((users, items, values), graph, start=start) for _ in range(2))
    assert (warm.item_vectors == again.item_vectors).all() and warm.scores == again.scores
    assert warm.start_score is not None and warm.best_score >= warm.start_score
    assert warm.best_score > fit((users, items, values), graph).best_score - 0.05


def test_a_warm_fit_is_shorter() -> None:
    users, items, values = blocks(rated_alike=False)
    earlier = fit((users[:-20], items[:-20], values[:-20]), "signed")
    data = ratings_of((users, items, values))
    warm = fit((users, items, values), "signed", 0, warm_start(earlier.weights, data.user_ids, data.item_ids, data))
    cold = fit((users, items, values), "signed")
    assert warm.start_score is not None and warm.start_score > cold.scores[0]
    assert warm.best_epoch < cold.best_epoch and len(warm.losses) < len(cold.losses)


@hypothesis_settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_a_start_that_no_epoch_betters_stays(seed: int) -> None:
    data = ratings_of(blocks(rated_alike=False))
    earlier = fit(blocks(rated_alike=False), "signed")
    start = warm_start(earlier.weights, data.user_ids, data.item_ids, data)
    harmful = CollaborativeSettings(graph="signed", dimensions=8, epochs=9, patience=2, learning_rate=30.0)
    result = train_lightgcn(data, harmful, seed, start=start)
    assert result.best_epoch == 0 and len(result.losses) == 2 and result.best_score == result.start_score
    assert (result.weights == earlier.weights).all() and (result.item_vectors == earlier.item_vectors).all()
