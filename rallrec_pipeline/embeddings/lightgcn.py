"""LightGCN item vectors (eq. 4), plain or with signed edges that carry the rating.

Only training interactions may enter. A tenth of them is held out to choose the epoch, and comes back into the
graph when the final vectors are read off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.graph import Edges, adjacency, correlation, propagate, recall_at, user_means
from rallrec_pipeline.errors import DataError

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import CollaborativeSettings

Progress = Callable[[int, int, str], None]

INIT_DEVIATION = 0.1
HELD_OUT = 0.1  # share of the training interactions that chooses the epoch
RECALL_AT = 20
RECALL_USERS = 2000  # users with held-out items that recall is measured on, at most
DEFAULT_L2 = {"binary": 1e-4, "signed": 1e-2}


@dataclass(frozen=True)
class LightGCNResult:
    """`item_vectors` (n_items, d) and `user_vectors` (n_users, d) float32 of the best epoch.

    `losses` and `scores` have one entry per epoch; `metric` says what `scores` are on the held-out training
    interactions: `recall@20` (binary), or `correlation` with the centred ratings (signed).
    """

    item_vectors: NDArray[np.float32]
    user_vectors: NDArray[np.float32]
    losses: list[float]
    scores: list[float]
    metric: str

    @property
    def recall(self) -> list[float]:
        """The inner score of each epoch, whatever `metric` it is."""
        return self.scores

    @property
    def best_epoch(self) -> int:
        """Number of epochs behind the vectors."""
        return int(np.argmax(self.scores)) + 1


def train_lightgcn(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    ratings: NDArray[np.float32],
    n_users: int,
    n_items: int,
    settings: CollaborativeSettings,
    seed: int,
    progress: Progress | None = None,
) -> LightGCNResult:
    """Fit on training interactions (n,) given as codes and ratings; stop by a score on some held out of them.

    `binary`: edges of weight 1, BPR against items the user has not rated. `signed`: edges carry the rating minus
    the user's mean and are normalised by the root of absolute degrees; the dot product is fitted to that centred
    rating, so that items are close which the same users rate alike. `progress(done, total, note)` is called once
    per epoch. Items without training interactions get a zero vector. Raises DataError without interactions.
    """
    import torch

    if not len(users):
        raise DataError("LightGCN has no training interactions: check the k-core and the split of the dataset")
    rng = np.random.default_rng(seed)
    values = ratings - user_means(users, ratings, n_users)[users] if settings.graph == "signed" else np.ones(len(users))
    edges = Edges(users.astype(np.int64), items.astype(np.int64), values.astype(np.float32))
    held = rng.permutation(len(edges)) < max(1, int(HELD_OUT * len(edges)))
    inner = edges[~held] if len(edges) > 1 else edges
    trainer = _Trainer(inner, n_users, n_items, settings, rng)
    judge = _judge(settings.graph, inner, edges[held], n_users)
    losses, scores, best = [], [], trainer.weights.detach().clone()
    for epoch in range(settings.epochs):
        losses.append(trainer.epoch())
        scores.append(judge(trainer.vectors()))
        if scores[-1] >= max(scores):
            best = trainer.weights.detach().clone()
        if progress:
            progress(epoch + 1, settings.epochs, f"loss {losses[-1]:.4f}, held-out score {scores[-1]:.4f}")
        if epoch + 1 - (int(np.argmax(scores)) + 1) >= settings.patience:
            break
    with torch.no_grad():
        vectors = propagate(adjacency(edges, n_users, n_items), best, settings.layers)
    vectors[n_users + np.setdiff1d(np.arange(n_items), items)] = 0
    metric = "correlation" if settings.graph == "signed" else f"recall@{RECALL_AT}"
    return LightGCNResult(vectors[n_users:].numpy(), vectors[:n_users].numpy(), losses, scores, metric)


class _Trainer:
    """Weights, optimiser and random state of one fit."""

    def __init__(
        self, edges: Edges, n_users: int, n_items: int, settings: CollaborativeSettings, rng: np.random.Generator
    ) -> None:
        import torch

        self.edges, self.n_users, self.n_items, self.settings, self.rng = edges, n_users, n_items, settings, rng
        self.matrix = adjacency(edges, n_users, n_items)
        start = rng.standard_normal((n_users + n_items, settings.dimensions)).astype(np.float32) * INIT_DEVIATION
        self.weights = torch.from_numpy(start).requires_grad_()
        self.optimizer = torch.optim.Adam([self.weights], settings.learning_rate)
        self.l2 = DEFAULT_L2[settings.graph] if settings.l2 is None else settings.l2
        self.seen = np.sort(edges.users * n_items + edges.items)

    def vectors(self) -> NDArray[np.float32]:
        """Propagated vectors (n_users + n_items, d)."""
        return propagate(self.matrix, self.weights.detach(), self.settings.layers).numpy()

    def epoch(self) -> float:
        """One pass over the edges in random order; the mean loss, without the penalty."""
        order = self.rng.permutation(len(self.edges))
        step = self.settings.batch_size
        total = 0.0
        for start in range(0, len(order), step):
            batch = self.edges[order[start : start + step]]
            loss, used = self._loss(batch)
            # index_select, not indexing: its gradient on the CPU adds in a fixed order
            penalty = self.weights.index_select(0, used).square().sum() / len(batch)
            self.optimizer.zero_grad()
            (loss + self.l2 * penalty).backward()
            self.optimizer.step()
            total += loss.item() * len(batch)
        return total / len(order)

    def _loss(self, batch: Edges) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's loss, and the rows of `weights` that it is about."""
        import torch

        users, items = torch.from_numpy(batch.users), torch.from_numpy(batch.items + self.n_users)
        vectors = propagate(self.matrix, self.weights, self.settings.layers)
        of_users = vectors.index_select(0, users)
        fit = (of_users * vectors.index_select(0, items)).sum(1)  # (batch,)
        if self.settings.graph == "signed":
            return (fit - torch.from_numpy(batch.values)).square().mean(), torch.cat([users, items])
        negatives = torch.from_numpy(self._negatives(batch.users) + self.n_users)
        margin = fit - (of_users * vectors.index_select(0, negatives)).sum(1)
        return torch.nn.functional.softplus(-margin).mean(), torch.cat([users, items, negatives])

    def _negatives(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """One item per user, redrawn twice where the user has rated it."""
        items = self.rng.integers(0, self.n_items, len(users))
        for _ in range(2):
            keys = users * self.n_items + items
            found = np.minimum(np.searchsorted(self.seen, keys), len(self.seen) - 1)
            rated = np.flatnonzero(self.seen[found] == keys)
            items[rated] = self.rng.integers(0, self.n_items, len(rated))
        return items


def _judge(graph: str, inner: Edges, held: Edges, n_users: int) -> Callable[[NDArray[np.float32]], float]:
    """Score of propagated vectors on the held-out edges; recall looks at `RECALL_USERS` users at most."""
    if graph == "signed":
        return lambda vectors: correlation(vectors[:n_users], vectors[n_users:], held)
    few = held[np.isin(held.users, np.unique(held.users)[:RECALL_USERS])]
    known = inner[np.isin(inner.users, few.users)]
    return lambda vectors: recall_at(RECALL_AT, vectors[:n_users], vectors[n_users:], known, few)
