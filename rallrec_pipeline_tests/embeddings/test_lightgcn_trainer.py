from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import softplus

from rallrec_pipeline.embeddings.graph import Edges
from rallrec_pipeline.embeddings.lightgcn_trainer import (
    INIT_DEVIATION,
    Trainer,
    UnratedItems,
    pairwise_loss,
    rating_loss,
)
from rallrec_pipeline.settings import CollaborativeSettings

Graph = Literal["binary", "signed"]
N_USERS, N_ITEMS = 12, 9


def edges_of(graph: Graph, seed: int = 0) -> Edges:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((N_USERS, N_ITEMS)) < 0.5)
    values = rng.normal(size=len(users)) if graph == "signed" else np.ones(len(users))
    return Edges(users, items, values.astype(np.float32))


def settings_of(graph: Graph) -> CollaborativeSettings:
    return CollaborativeSettings(graph=graph, dimensions=4, layers=2, batch_size=16, learning_rate=0.05, l2=0.1)


def rows(n: int, most: int, seed: int) -> torch.Tensor:
    return torch.randint(0, most, (n,), generator=torch.Generator().manual_seed(seed))


def test_losses_and_gradients_are_those_of_autograd() -> None:
    vectors = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    users, items, negatives = (rows(40, 8, seed) for seed in (1, 2, 3))  # each row several times
    values = torch.randn(40, generator=torch.Generator().manual_seed(4))
    fit = (vectors[users] * vectors[items]).sum(1)
    margin = fit - (vectors[users] * vectors[negatives]).sum(1)
    plain = [(fit - values).square().mean(), softplus(-margin).mean()]
    given_vectors = vectors.detach()
    found = [rating_loss(given_vectors, users, items, values), pairwise_loss(given_vectors, users, items, negatives)]
    for expected, (loss, gradient) in zip(plain, found, strict=True):
        (wanted,) = torch.autograd.grad(expected, vectors, retain_graph=True)
        assert torch.allclose(loss, expected) and torch.allclose(gradient, wanted, atol=1e-6)
        assert not gradient.requires_grad


@pytest.mark.parametrize("graph", ["binary", "signed"])
def test_epochs_are_those_of_the_plain_formula(graph: Graph) -> None:
    """Against a dense matrix, recorded gradients and the plain Adam."""
    edges, settings = edges_of(graph), settings_of(graph)
    trainer = Trainer(edges, N_USERS, N_ITEMS, settings, np.random.default_rng(3))
    losses = [trainer.epoch() for _ in range(3)]
    weights, expected = plain_epochs(edges, settings, 3, np.random.default_rng(3))
    assert losses == pytest.approx(expected, rel=1e-4) and losses[2] < losses[0]
    assert torch.allclose(trainer.weights.cpu(), weights, atol=1e-4)


def plain_epochs(
    edges: Edges, settings: CollaborativeSettings, epochs: int, rng: np.random.Generator
) -> tuple[torch.Tensor, list[float]]:
    """(weights, losses) of LightGCN as a textbook has it."""
    size = N_USERS + N_ITEMS
    matrix = np.zeros((size, size))
    matrix[edges.users, edges.items + N_USERS] = matrix[edges.items + N_USERS, edges.users] = edges.values
    scale = 1 / np.sqrt(np.maximum(np.abs(matrix).sum(1), 1e-12))
    a = torch.tensor(scale[:, None] * matrix * scale, dtype=torch.float32)
    drawn = rng.standard_normal((size, settings.dimensions)).astype(np.float32) * INIT_DEVIATION
    weights = torch.from_numpy(drawn).requires_grad_()
    adam = torch.optim.Adam([weights], settings.learning_rate, foreach=False)
    unrated, losses = UnratedItems(edges, N_USERS, N_ITEMS), []
    for _ in range(epochs):
        order, total = rng.permutation(len(edges)), 0.0
        negatives = N_USERS + torch.from_numpy(unrated.draw(edges.users[order], rng)) if is_binary(settings) else None
        for start in range(0, len(order), settings.batch_size):
            part = order[start : start + settings.batch_size]
            users, items = torch.from_numpy(edges.users[part]), torch.from_numpy(edges.items[part] + N_USERS)
            vectors = (weights + a @ weights + a @ a @ weights) / 3
            fit, used = (vectors[users] * vectors[items]).sum(1), [users, items]
            if negatives is None:
                loss = (fit - torch.from_numpy(edges.values[part])).square().mean()
            else:
                drawn_items = negatives[start : start + settings.batch_size]
                loss = softplus((vectors[users] * vectors[drawn_items]).sum(1) - fit).mean()
                used.append(drawn_items)
            adam.zero_grad()
            (loss + 0.1 * weights[torch.cat(used)].square().sum() / len(part)).backward()
            adam.step()
            total += loss.item() * len(part)
        losses.append(total / len(order))
    return weights.detach(), losses


def is_binary(settings: CollaborativeSettings) -> bool:
    return settings.graph == "binary"


@pytest.mark.parametrize("graph", ["binary", "signed"])
def test_an_epoch_does_not_depend_on_the_number_of_threads(graph: Graph) -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            trainer = Trainer(edges_of(graph), N_USERS, N_ITEMS, settings_of(graph), np.random.default_rng(0))
            found.append((trainer.epoch(), trainer.vectors()))
    finally:
        torch.set_num_threads(threads)
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 5))), st.integers(0, 2**32 - 1))
def test_drawn_items_are_not_rated(pairs: set[tuple[int, int]], seed: int) -> None:
    users, items = np.array(sorted(pairs, key=lambda pair: (pair[1], pair[0])), np.int64).reshape(-1, 2).T
    unrated = UnratedItems(Edges(users, items, np.ones(len(users), np.float32)), 5, 6)
    asked = np.repeat(np.arange(5), 8)
    drawn = unrated.draw(asked, np.random.default_rng(seed))
    assert ((drawn >= 0) & (drawn < 6)).all()
    full = {user for user in range(5) if all((user, item) in pairs for item in range(6))}
    assert all((u, i) not in pairs for u, i in zip(asked.tolist(), drawn.tolist(), strict=True) if u not in full)


def test_all_unrated_items_are_drawn_equally_often() -> None:
    edges = Edges(np.array([1, 1, 1, 0]), np.array([4, 0, 1, 2]), np.ones(4, np.float32))
    unrated, draws = UnratedItems(edges, 3, 6), 6000
    for user, expected in [(0, {0, 1, 3, 4, 5}), (1, {2, 3, 5}), (2, {0, 1, 2, 3, 4, 5})]:
        counts = np.bincount(unrated.draw(np.full(draws, user), np.random.default_rng(user)), minlength=6)
        assert set(np.flatnonzero(counts).tolist()) == expected
        assert np.abs(counts[counts > 0] * len(expected) / draws - 1).max() < 0.1
