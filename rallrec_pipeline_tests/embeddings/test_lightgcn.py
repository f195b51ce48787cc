from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.lightgcn import LightGCNResult, Ratings, train_lightgcn
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


def fit(data: Interactions, graph: Literal["binary", "signed"], seed: int = 0) -> LightGCNResult:
    settings = CollaborativeSettings(graph=graph, dimensions=8, epochs=40, batch_size=64, learning_rate=0.02)
    return train_lightgcn(ratings_of(data), settings, seed)


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
    assert (first.weights == second.weights).all()
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


@pytest.mark.parametrize("graph", ["binary", "signed"])
def test_a_fit_goes_on_from_a_start_array(graph: Literal["binary", "signed"]) -> None:
    """The array itself stays as it is, and the first epoch is better than one from random weights."""
    data = ratings_of(blocks(rated_alike=False))
    short = CollaborativeSettings(graph=graph, dimensions=8, epochs=1, batch_size=64, learning_rate=0.02)
    start = fit(blocks(rated_alike=False), graph).weights
    before = start.copy()
    warm, again = (train_lightgcn(data, short, 0, start=start) for _ in range(2))
    assert (start == before).all() and (warm.weights == again.weights).all()
    assert warm.losses[0] < train_lightgcn(data, short, 0).losses[0]
