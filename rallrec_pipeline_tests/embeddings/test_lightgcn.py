from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.graph import (
    HELD_OUT,
    Edges,
    adjacency,
    correlation,
    held_out_edges,
    propagate,
    recall_at,
)
from rallrec_pipeline.embeddings.lightgcn import LightGCNResult, Ratings, WarmStart, train_lightgcn, warm_start
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.settings import CollaborativeSettings

N_USERS, N_ITEMS, BLOCKS = 40, 20, 2
Interactions = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
EDGES = Edges(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), np.array([1, -2, 0.5, 0], np.float32))


def dense(edges: Edges, n_users: int, n_items: int) -> NDArray[np.float64]:
    """A = D^-1/2 [[0, R], [R', 0]] D^-1/2 with absolute degrees, written out."""
    matrix = np.zeros((n_users + n_items, n_users + n_items))
    for user, item, value in zip(edges.users, edges.items, edges.values, strict=True):
        matrix[user, n_users + item] = matrix[n_users + item, user] = value
    degree = np.abs(matrix).sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return scale[:, None] * matrix * scale


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


def test_propagation_is_the_dense_formula_and_so_is_its_gradient() -> None:
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sparse = propagate(adjacency(EDGES, 3, 2), weights, 3)
    sparse.square().sum().backward()
    a = torch.tensor(dense(EDGES, 3, 2), dtype=torch.float32)
    plain = weights.detach().clone().requires_grad_()
    expected = (plain + a @ plain + a @ a @ plain + a @ a @ a @ plain) / 4
    expected.square().sum().backward()
    assert weights.grad is not None
    assert plain.grad is not None
    assert torch.allclose(sparse, expected, atol=1e-6)
    assert torch.allclose(weights.grad, plain.grad, atol=1e-5)


def test_no_layer_is_the_weights_themselves() -> None:
    weights = torch.ones(5, 2)
    assert torch.equal(propagate(adjacency(EDGES, 3, 2), weights, 0), weights)


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


def test_recall_by_hand() -> None:
    users, items = np.eye(2, dtype=np.float32), np.array([[3, 0], [2, 1], [1, 2], [0, 3]], np.float32)
    known = Edges(np.array([0]), np.array([0]), np.ones(1, np.float32))
    held = Edges(np.array([0, 0, 1]), np.array([1, 3, 3]), np.ones(3, np.float32))
    # user 0: item 0 is known, so the top item is 1: one of two found; user 1: item 3 found
    assert recall_at(1, users, items, known, held) == pytest.approx((1 / 2 + 1) / 2)


def test_correlation_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)
    fits = [float(users[u] @ items[i]) for u, i in zip(EDGES.users, EDGES.items, strict=True)]
    assert correlation(users, items, EDGES) == pytest.approx(np.corrcoef(fits, EDGES.values)[0, 1], abs=1e-5)


IDS = st.lists(st.text(max_size=3), unique=True, max_size=8)


def all_pairs(users: list[str], items: list[str]) -> dict[tuple[str, str], bool]:
    """Whether each pair is held out of the complete graph."""
    u, i = (part.ravel() for part in np.indices((len(users), len(items))).astype(np.int32))
    held = held_out_edges(u, i, users, items)
    return {(users[a], items[b]): bool(h) for a, b, h in zip(u, i, held, strict=True)}


def test_a_pair_is_held_out_whatever_else_there_is() -> None:
    users, items = [f"user {n}" for n in range(40)], [f"item {n}" for n in range(40)]
    whole, turned = all_pairs(users, items), all_pairs(users[::-1], items[::-1])
    part = all_pairs(["new", *users[5:25]], [*items[::2], "other"])
    assert turned == whole
    assert all(whole[pair] == held for pair, held in part.items() if pair in whole)
    assert HELD_OUT * 0.7 < np.mean(list(whole.values())) < HELD_OUT * 1.3
    by_user = [np.mean([whole[user, item] for item in items]) for user in users]
    assert max(by_user) < 0.4 and len(set(by_user)) > 3


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6, unique=True))
def test_few_edges_are_split_as_well(pairs: list[tuple[int, int]]) -> None:
    users, items = np.array(pairs, np.int32).T
    held = held_out_edges(users, items, "abcdef", "uvwxyz")
    assert held.any() and (len(pairs) == 1 or not held.all())


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
