"""Epochs of LightGCN: one propagation forwards and one backwards a batch, on the GPU where there is one.

The gradient is written out instead of recorded: the scores of a batch are dot products of propagated vectors, and
propagation is its own backward pass. All that is random is drawn by NumPy, an epoch at a time, so that it is the same
on every device. One seed gives one result: nothing is added up in an order that could change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.graph import Edges, adjacency, propagate

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import CollaborativeSettings

INIT_DEVIATION = 0.1
DEFAULT_L2 = {"binary": 1e-4, "signed": 1e-2}


class Trainer:
    """Weights (n_users + n_items, d), optimiser and random state of one fit to `edges`."""

    def __init__(
        self,
        edges: Edges,
        n_users: int,
        n_items: int,
        settings: CollaborativeSettings,
        rng: np.random.Generator,
        start: NDArray[np.float32] | None = None,
    ) -> None:
        import torch

        self.n_users, self.settings, self.rng = n_users, settings, rng
        self.device = best_device()
        self.matrix = adjacency(edges, n_users, n_items, self.device)
        drawn = rng.standard_normal((n_users + n_items, settings.dimensions)).astype(np.float32) * INIT_DEVIATION
        self.weights = torch.from_numpy(drawn if start is None else start.astype(np.float32)).to(self.device)
        self.optimizer = torch.optim.Adam([self.weights], settings.learning_rate, fused=True)
        self.l2 = DEFAULT_L2[settings.graph] if settings.l2 is None else settings.l2
        self.users = torch.from_numpy(edges.users).to(self.device)
        self.items = torch.from_numpy(edges.items + n_users).to(self.device)  # as rows of the weights
        self.values = torch.from_numpy(edges.values).to(self.device)
        self.unrated = UnratedItems(edges, n_users, n_items) if settings.graph == "binary" else None

    def vectors(self) -> torch.Tensor:
        """Propagated vectors (n_users + n_items, d)."""
        return propagate(self.matrix, self.weights, self.settings.layers)

    def epoch(self) -> float:
        """One pass over the edges in random order; the mean loss, without the penalty."""
        import torch

        order = self.rng.permutation(len(self.users))
        rows = torch.from_numpy(order).to(self.device)
        parts = [self.users[rows], self.items[rows]]
        if self.unrated is None:
            parts.append(self.values[rows])
        else:
            drawn = self.unrated.draw(self.unrated.users[order], self.rng)
            parts.append(torch.from_numpy(drawn + self.n_users).to(self.device))
        total = torch.zeros((), device=self.device)
        for batch in zip(*(part.split(self.settings.batch_size) for part in parts), strict=True):
            total += self._step(*batch) * len(batch[0])
        return float(total) / len(order)

    def _step(self, users: torch.Tensor, items: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """One optimiser step on a batch (b,); `other` are its values (`signed`) or items not rated. The mean loss."""
        import torch

        vectors, layers = self.vectors(), self.settings.layers
        if self.unrated is None:
            loss, gradient = rating_loss(vectors, users, items, other)
            used = torch.cat([users, items])
        else:
            loss, gradient = pairwise_loss(vectors, users, items, other)
            used = torch.cat([users, items, other])
        gradient = propagate(self.matrix, gradient, layers)
        times = torch.bincount(used, minlength=len(vectors)).to(vectors.dtype)[:, None]
        # the penalty l2 * sum |weights|^2 / b goes over all rows that the batch names, as often as it does
        self.weights.grad = gradient.addcmul_(self.weights, times, value=2 * self.l2 / len(users))
        self.optimizer.step()
        return loss


def rating_loss(
    vectors: torch.Tensor, users: torch.Tensor, items: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error of the dot products to `values` (b,), and its gradient with respect to `vectors` (m, d)."""
    import torch

    of_users, of_items = vectors.index_select(0, users), vectors.index_select(0, items)  # (b, d)
    error = torch.linalg.vecdot(of_users, of_items) - values
    slope = (2 / len(users) * error)[:, None]
    gradient = torch.zeros_like(vectors)
    add_rows(gradient, users, of_items * slope)
    add_rows(gradient, items, of_users * slope)
    return error.square().mean(), gradient


def pairwise_loss(
    vectors: torch.Tensor, users: torch.Tensor, items: torch.Tensor, negatives: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean BPR loss of `items` against `negatives` (b,), and its gradient with respect to `vectors` (m, d)."""
    import torch

    of_users = vectors.index_select(0, users)  # (b, d)
    difference = vectors.index_select(0, items).sub_(vectors.index_select(0, negatives))
    margin = torch.linalg.vecdot(of_users, difference)
    slope = (torch.sigmoid(-margin) / -len(users))[:, None]
    gradient = torch.zeros_like(vectors)
    add_rows(gradient, users, difference.mul_(slope))
    add_rows(gradient, items, of_users.mul_(slope))
    add_rows(gradient, negatives, of_users.neg_())
    return torch.nn.functional.softplus(-margin).mean(), gradient


def add_rows(target: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """target[rows] += values, a row that is named several times as often; the same bits every time."""
    if target.is_cuda:
        target.index_put_((rows,), values, accumulate=True)  # sorts; `index_add_` adds as the threads come
    else:
        target.index_add_(0, rows, values)  # in the order given, and twice as fast as the other


class UnratedItems:
    """Draws items at random that a user has no edge to."""

    def __init__(self, edges: Edges, n_users: int, n_items: int) -> None:
        self.users, self.n_items = edges.users, n_items
        rated = np.unique(edges.users * n_items + edges.items)
        of_user, item = np.divmod(rated, n_items)
        counts = np.bincount(of_user, minlength=n_users)
        self.first = np.cumsum(counts) - counts  # (n_users,)
        self.free = n_items - counts
        # each rated item's user, and how many unrated items of hers come before it, as one number; it never falls
        self.gaps = of_user * n_items + item - (np.arange(len(rated)) - self.first[of_user])

    def draw(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """An unrated item for each of `users` (b,), all equally likely; any item for one who has rated them all.

        The r-th unrated item is r plus the number of rated ones that have no more than r unrated ones before them.
        """
        none = self.free[users] == 0
        rank = rng.integers(0, np.where(none, self.n_items, self.free[users]))
        before = np.searchsorted(self.gaps, users * self.n_items + rank, side="right") - self.first[users]
        return np.where(none, rank, rank + before)


def best_device() -> torch.device:
    """The GPU where PyTorch has one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
