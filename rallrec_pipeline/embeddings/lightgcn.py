"""LightGCN item vectors (eq. 4), plain or with signed edges that carry the rating.

Only training interactions may enter. A tenth of them is held out to choose the epoch, and comes back into the
graph when the final vectors are read off.

A fit may start from the weights of an earlier one. The state of its optimiser is not kept: Adam's averages are made
anew within some ten steps, they would be of rows and a loss that have changed since, and they are twice the size of the
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.graph import (
    Edges,
    Recall,
    adjacency,
    correlation,
    held_out_edges,
    propagate,
    user_means,
)
from rallrec_pipeline.embeddings.lightgcn_trainer import (
    Trainer,
    UnratedItems,
    WarmStart,
    best_device,
    pairwise_loss,
)
from rallrec_pipeline.errors import DataError

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import CollaborativeSettings

Progress = Callable[[int, int, str], None]

RECALL_AT = 20
RECALL_USERS = 2000  # users with held-out items that recall is measured on, at most


@dataclass(frozen=True)
class Ratings:
    """Training interactions (n,): `users` and `items` int32 codes into the ids, `values` float32 ratings."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    values: NDArray[np.float32]
    user_ids: Sequence[str]
    item_ids: Sequence[str]

    def edges(self, graph: str) -> Edges:
        """Edges of the `signed` or the `binary` graph."""
        means = user_means(self.users, self.values, len(self.user_ids))
        values = self.values - means[self.users] if graph == "signed" else np.ones(len(self.users))
        return Edges(self.users.astype(np.int64), self.items.astype(np.int64), values.astype(np.float32))


@dataclass(frozen=True)
class LightGCNResult:
    """`weights` (n_users + n_items, d) float32 of the best epoch, and what is read off them with all edges.

    `item_vectors` (n_items, d) and `user_vectors` (n_users, d) are float32. `losses` and `scores` have one entry per
    epoch; `metric` says what `scores` are on the held-out training interactions: `recall@20` (binary), or `correlation`
    with the centred ratings (signed). `start_score` is that of the weights a warm start began with.
    """

    item_vectors: NDArray[np.float32]
    user_vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    losses: list[float]
    scores: list[float]
    metric: str
    start_score: float | None = None

    @property
    def best_epoch(self) -> int:
        """Number of epochs behind the vectors; 0 where no epoch of a warm start was better than its start."""
        return _best_epoch(self.scores, self.start_score)

    @property
    def best_score(self) -> float:
        """The score that chose the epoch."""
        epoch = self.best_epoch
        return self.scores[epoch - 1] if epoch or self.start_score is None else self.start_score


def train_lightgcn(
    ratings: Ratings,
    settings: CollaborativeSettings,
    seed: int,
    progress: Progress | None = None,
    start: WarmStart | None = None,
) -> LightGCNResult:
    """Fit on training interactions; stop by a score on some held out of them (`held_out_edges`).

    The vectors are those of the best score. The fit ends after `patience` epochs without progress on what is held out:
    a better score or, in the binary graph, a lower loss.

    `binary`: edges of weight 1, BPR against items the user has not rated. `signed`: edges carry the rating minus
    the user's mean and are normalised by the root of absolute degrees; the dot product is fitted to that centred
    rating, so that items are close which the same users rate alike. `progress(done, total, note)` is called once
    per epoch. Items without training interactions get a zero vector. With a warm `start` the starting weights are
    scored too, and stay where no epoch is better. Raises DataError without interactions.
    """
    if not len(ratings.users):
        raise DataError("LightGCN has no training interactions: check the k-core and the split of the dataset")
    edges, n_users, n_items = ratings.edges(settings.graph), len(ratings.user_ids), len(ratings.item_ids)
    held = held_out_edges(ratings.users, ratings.items, ratings.user_ids, ratings.item_ids)
    inner = edges[~held] if len(edges) > 1 else edges
    trainer = Trainer(inner, n_users, n_items, settings, np.random.default_rng(seed), start)
    judge = _judge(settings.graph, inner, edges[held], n_users, n_items)
    losses: list[float] = []
    found: list[tuple[float, ...]] = []
    at_start = judge(trainer.vectors()) if start else None
    best = trainer.weights.clone()
    for epoch in range(1, settings.epochs + 1):
        losses.append(trainer.epoch())
        found.append(judge(trainer.vectors()))
        best_epochs = _best_epochs(found, at_start)
        if best_epochs[0] == epoch:
            best = trainer.weights.clone()
        if progress:
            progress(epoch, settings.epochs, f"loss {losses[-1]:.4f}, held-out score {found[-1][0]:.4f}")
        if epoch - max(best_epochs) >= settings.patience:
            break
    scores, start_score = [score for score, *_ in found], None if at_start is None else at_start[0]
    return read_off(ratings, settings, best.cpu().numpy(), losses, scores, start_score)


def read_off(
    ratings: Ratings,
    settings: CollaborativeSettings,
    weights: NDArray[np.float32],
    losses: list[float],
    scores: list[float],
    start_score: float | None,
) -> LightGCNResult:
    """The result that chosen `weights` (n_users + n_items, d) give with all edges, held-out ones included."""
    import torch

    n_users, n_items, device = len(ratings.user_ids), len(ratings.item_ids), best_device()
    matrix = adjacency(ratings.edges(settings.graph), n_users, n_items, device)
    vectors = propagate(matrix, torch.from_numpy(weights).to(device), settings.layers).cpu().numpy()
    vectors[n_users + np.setdiff1d(np.arange(n_items), ratings.items)] = 0
    metric = "correlation" if settings.graph == "signed" else f"recall@{RECALL_AT}"
    return LightGCNResult(vectors[n_users:], vectors[:n_users], weights, losses, scores, metric, start_score)


def warm_start(
    weights: NDArray[np.float32],
    users: Sequence[str],
    items: Sequence[str],
    ratings: Ratings,
    forgotten: Collection[str] = (),
) -> WarmStart:
    """Rows of earlier `weights` (of `users`, then `items`) for the ids of `ratings`, without the items `forgotten`."""
    old_users, new_users = _matched(users, ratings.user_ids, ())
    old_items, new_items = _matched(items, ratings.item_ids, frozenset(forgotten))
    rows = np.concatenate([new_users, new_items + len(ratings.user_ids)])
    return WarmStart(rows, weights[np.concatenate([old_users, old_items + len(users)])])


def _matched(
    old: Sequence[str], new: Sequence[str], without: Collection[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in `old` and in `new` of the ids that are in both, and not in `without`."""
    place = {name: row for row, name in enumerate(old) if name not in without}
    pairs = [(place[name], row) for row, name in enumerate(new) if name in place]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _best_epochs(found: Sequence[tuple[float, ...]], at_start: tuple[float, ...] | None) -> list[int]:
    """`_best_epoch` by each figure of a judge."""
    figures = list(zip(*found, strict=True))
    starts: Sequence[float | None] = at_start or [None] * len(figures)
    return [_best_epoch(scores, start) for scores, start in zip(figures, starts, strict=True)]


def _best_epoch(scores: Sequence[float], start_score: float | None) -> int:
    """The first epoch with the best score, counted from 1; 0 is the start, where it has a score."""
    best = int(np.argmax(scores)) + 1 if scores else 0
    return 0 if start_score is not None and (not scores or start_score >= scores[best - 1]) else best


def _judge(
    graph: str, inner: Edges, held: Edges, n_users: int, n_items: int
) -> Callable[[torch.Tensor], tuple[float, ...]]:
    """What propagated vectors are worth on the held-out edges: the score, and other figures whose rise is progress.

    Recall looks at `RECALL_USERS` users at most. Beside it goes the negative BPR loss on the same edges: for some
    epochs after a random start all users are shown the most popular items, and recall stands still while the loss
    falls.
    """
    import torch

    if graph == "signed":

        def correlate(vectors: torch.Tensor) -> tuple[float, ...]:
            found = vectors.cpu().numpy()
            return (correlation(found[:n_users], found[n_users:], held),)

        return correlate
    few = held[np.isin(held.users, np.unique(held.users)[:RECALL_USERS])]
    recall = Recall(RECALL_AT, inner, few)
    others = UnratedItems(inner, n_users, n_items).draw(few.users, np.random.default_rng(0))
    rows = [few.users, few.items + n_users, others + n_users]

    def rank(vectors: torch.Tensor) -> tuple[float, ...]:
        parts = [torch.from_numpy(part).to(vectors.device) for part in rows]
        return recall(vectors[:n_users], vectors[n_users:]), -float(pairwise_loss(vectors, *parts)[0])

    return rank
