"""LightGCN item vectors (eq. 4), plain or with signed edges that carry the rating.

Only training interactions may enter. A tenth of them is held out to choose the epoch, and comes back into the
graph when the final vectors are read off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    pairwise_loss,
)
from rallrec_pipeline.errors import DataError

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import CollaborativeSettings

Progress = Callable[[int, int], None]

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
    """`weights` (n_users + n_items, d) float32 of the best epoch; `item_vectors` (n_items, d) float32 with all edges.

    `losses` and `scores` have one entry per epoch; `metric` says what `scores` are on the held-out training
    interactions: `recall@20` (binary), or `correlation` with the centred ratings (signed).
    """

    item_vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    losses: list[float]
    scores: list[float]
    metric: str

    @property
    def best_epoch(self) -> int:
        """Number of epochs behind the vectors."""
        return int(np.argmax(self.scores)) + 1


def train_lightgcn(
    ratings: Ratings,
    settings: CollaborativeSettings,
    seed: int,
    progress: Progress | None = None,
    start: NDArray[np.float32] | None = None,
) -> LightGCNResult:
    """Fit on training interactions; stop by a score on some held out of them (`held_out_edges`).

    The vectors are those of the best score. The fit ends after `patience` epochs without progress on what is held out:
    a better score or, in the binary graph, a lower loss.

    `binary`: edges of weight 1, BPR against items the user has not rated. `signed`: edges carry the rating minus
    the user's mean and are normalised by the root of absolute degrees; the dot product is fitted to that centred
    rating, so that items are close which the same users rate alike. `progress(done, total)` is called once per epoch.
    Items without training interactions get a zero vector. `start` (n_users + n_items, d) are weights to begin with;
    they are drawn at random where it is None. Raises DataError without interactions.
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
    best = trainer.weights
    for epoch in range(1, settings.epochs + 1):
        losses.append(trainer.epoch())
        found.append(judge(trainer.vectors()))
        best_epochs = np.argmax(found, axis=0) + 1  # by each figure of the judge
        if best_epochs[0] == epoch:
            best = trainer.weights.clone()
        if progress:
            progress(epoch, settings.epochs)
        if epoch - best_epochs.max() >= settings.patience:
            break
    whole = adjacency(edges, n_users, n_items, trainer.device)
    vectors = propagate(whole, best, settings.layers)[n_users:].cpu().numpy()
    vectors[np.setdiff1d(np.arange(n_items), ratings.items)] = 0
    metric = "correlation" if settings.graph == "signed" else f"recall@{RECALL_AT}"
    return LightGCNResult(vectors, best.cpu().numpy(), losses, [score for score, *_ in found], metric)


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
