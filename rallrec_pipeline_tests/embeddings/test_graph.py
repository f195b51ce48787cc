import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.embeddings import graph
from rallrec_pipeline.embeddings.graph import (
    HELD_OUT,
    Edges,
    Recall,
    adjacency,
    correlation,
    held_out_edges,
    propagate,
)

EDGES = Edges(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), np.array([1, -2, 0.5, 0], np.float32))


def dense(edges: Edges, n_users: int, n_items: int) -> NDArray[np.float64]:
    """A = D^-1/2 [[0, R], [R', 0]] D^-1/2 with absolute degrees, written out."""
    matrix = np.zeros((n_users + n_items, n_users + n_items))
    for user, item, value in zip(edges.users, edges.items, edges.values, strict=True):
        matrix[user, n_users + item] = matrix[n_users + item, user] = value
    degree = np.abs(matrix).sum(axis=1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return scale[:, None] * matrix * scale


def random_edges(n_users: int, n_items: int, share: float, seed: int = 0) -> Edges:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < share)
    return Edges(users, items, rng.normal(size=len(users)).astype(np.float32))


@pytest.mark.parametrize("longest", [1, 3, 1024])
def test_the_product_is_that_of_the_dense_matrix(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LONGEST_PIECE", longest)
    edges = random_edges(7, 5, 0.5)
    x = torch.randn(2 + 7 + 5, 8, generator=torch.Generator().manual_seed(0))  # two users without edges
    found = adjacency(edges, 9, 5) @ x
    assert torch.allclose(found, torch.tensor(dense(edges, 9, 5), dtype=torch.float32) @ x, atol=1e-6)
    assert not found[7:9].any()


def test_propagation_is_the_dense_formula_and_its_own_gradient() -> None:
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    a = torch.tensor(dense(EDGES, 3, 2), dtype=torch.float32)
    expected = (weights + a @ weights + a @ a @ weights + a @ a @ a @ weights) / 4
    matrix = adjacency(EDGES, 3, 2)
    assert torch.allclose(propagate(matrix, weights.detach(), 3), expected, atol=1e-6)
    expected.square().sum().backward()
    assert weights.grad is not None
    assert torch.allclose(propagate(matrix, 2 * expected.detach(), 3), weights.grad, atol=1e-5)


def test_no_layer_is_the_weights_themselves() -> None:
    weights = torch.ones(5, 2)
    assert torch.equal(propagate(adjacency(EDGES, 3, 2), weights, 0), weights)


def test_the_product_does_not_depend_on_the_number_of_threads() -> None:
    matrix = adjacency(random_edges(300, 200, 0.2), 300, 200)
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            found.append(propagate(matrix, x, 3))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_recall_by_hand() -> None:
    users, items = torch.eye(2), torch.tensor([[3.0, 0], [2, 1], [1, 2], [0, 3]])
    known = Edges(np.array([0]), np.array([0]), np.ones(1, np.float32))
    held = Edges(np.array([0, 0, 1]), np.array([1, 3, 3]), np.ones(3, np.float32))
    # user 0: item 0 is known, so the top item is 1: one of two found; user 1: item 3 found
    assert Recall(1, known, held)(users, items) == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("block", [2, 256])
def test_recall_is_that_of_plain_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "BLOCK_USERS", block)
    edges, rng = random_edges(9, 12, 0.5), np.random.default_rng(1)
    mixed = edges[rng.permutation(len(edges))]
    held = mixed.users % 3 == rng.integers(0, 3, len(edges))
    users, items = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(12, 4)).astype(np.float32)
    shares = []
    for user in np.unique(mixed.users[held]):
        known = set(mixed.items[~held & (mixed.users == user)].tolist())
        wanted = set(mixed.items[held & (mixed.users == user)].tolist())
        ranked = [item for item in np.argsort(-(items @ users[user])).tolist() if item not in known]
        shares.append(len(wanted & set(ranked[:3])) / len(wanted))
    found = Recall(3, mixed[~held], mixed[held])(torch.from_numpy(users), torch.from_numpy(items))
    assert found == pytest.approx(np.mean(shares)) and 0 < found < 1


def test_correlation_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(2, 4)).astype(np.float32)
    fits = [float(users[u] @ items[i]) for u, i in zip(EDGES.users, EDGES.items, strict=True)]
    assert correlation(users, items, EDGES) == pytest.approx(np.corrcoef(fits, EDGES.values)[0, 1], abs=1e-5)


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
