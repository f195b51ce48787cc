"""The user-item graph: its normalised adjacency, propagation (eq. 4), and scores on held-out edges."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.datasets.draws import pair_draws

if TYPE_CHECKING:
    import torch

BLOCK_USERS = 256  # users whose item scores are held at once
HELD_OUT = 0.1  # share of the training interactions that chooses the epoch


@dataclass(frozen=True)
class Edges:
    """Interactions as arrays (n,): `users` and `items` int64 codes, `values` float32 edge weights."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.float32]

    def __getitem__(self, rows: NDArray[Any]) -> Edges:
        return Edges(self.users[rows], self.items[rows], self.values[rows])

    def __len__(self) -> int:
        return len(self.users)


def held_out_edges(
    users: NDArray[np.int32], items: NDArray[np.int32], user_ids: Sequence[str], item_ids: Sequence[str]
) -> NDArray[np.bool_]:
    """Which of the edges (n,), given as codes into the ids, are held out to choose the epoch: (n,) booleans.

    A pair of ids decides for itself, whatever else is in the data and whatever the seed: about a tenth of all pairs.
    So weights of an earlier run were never fitted to an edge that is held out now, and its score can be believed. Of
    two edges or more at least one is held out and one is not; a single one is held out.
    """
    draws = pair_draws(users, items, user_ids, item_ids)
    held = draws < np.uint64(int(HELD_OUT * 2**64))
    if len(held):
        held[np.argmax(draws)] = False
        held[np.argmin(draws)] = True
    return held


def user_means(users: NDArray[np.int32], ratings: NDArray[np.float32], n_users: int) -> NDArray[np.float64]:
    """Mean rating (n_users,) of each user, 0 for one without ratings."""
    counts = np.bincount(users, minlength=n_users)
    return np.bincount(users, ratings, n_users) / np.maximum(counts, 1)


def adjacency(edges: Edges, n_users: int, n_items: int) -> torch.Tensor:
    """Symmetric sparse CSR matrix of users, then items: value / sqrt(|degree of user| |degree of item|)."""
    import torch

    strength = np.abs(edges.values)
    user_degree = np.bincount(edges.users, strength, n_users)
    item_degree = np.bincount(edges.items, strength, n_items)
    degree = user_degree[edges.users] * item_degree[edges.items]
    values = np.divide(edges.values, np.sqrt(degree), out=np.zeros(len(edges)), where=degree > 0)
    rows = np.concatenate([edges.users, edges.items + n_users])
    columns = np.concatenate([edges.items + n_users, edges.users])
    order = np.lexsort((columns, rows))
    size = n_users + n_items
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=size))])
    entries = torch.from_numpy(np.concatenate([values, values])[order].astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch calls its CSR layout beta
        return torch.sparse_csr_tensor(
            torch.from_numpy(pointers), torch.from_numpy(columns[order]), entries, (size, size), check_invariants=False
        )


def propagate(matrix: torch.Tensor, weights: torch.Tensor, layers: int) -> torch.Tensor:
    """Eq. 4: mean over 0..`layers` of matrix^l @ weights, for a symmetric `matrix` (m, m) and (m, d) weights."""
    import torch

    class Symmetric(torch.autograd.Function):
        """Product with `matrix`; being symmetric, it is its own backward pass, without a transposed copy."""

        @staticmethod
        def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
            return matrix @ x

        @staticmethod
        def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
            return matrix @ gradient

    layer, total = weights, weights
    for _ in range(layers):
        layer = Symmetric.apply(layer)
        total = total + layer
    return total / (layers + 1)


def correlation(users: NDArray[np.float32], items: NDArray[np.float32], held: Edges) -> float:
    """Pearson correlation of the dot products of `users` and `items` vectors with the values of `held` edges."""
    fit = np.einsum("nd,nd->n", users[held.users], items[held.items], dtype=np.float64)
    spread = fit.std() * held.values.std()
    return float(((fit - fit.mean()) * (held.values - held.values.mean())).mean() / spread) if spread > 0 else 0.0


def recall_at(k: int, users: NDArray[np.float32], items: NDArray[np.float32], known: Edges, held: Edges) -> float:
    """Mean over users of the share of their `held` items among their top `k`, `known` items taken out."""
    judged, row = np.unique(held.users, return_inverse=True)
    hits = np.zeros(len(judged))
    known_row = np.full(len(users), -1)
    known_row[judged] = np.arange(len(judged))
    of_known = known_row[known.users]
    for start in range(0, len(judged), BLOCK_USERS):
        scores = users[judged[start : start + BLOCK_USERS]] @ items.T  # (block, n_items)
        mask = (of_known >= start) & (of_known < start + BLOCK_USERS)
        scores[of_known[mask] - start, known.items[mask]] = -np.inf
        width = min(k, len(items))
        best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        top = np.zeros(scores.shape, bool)
        np.put_along_axis(top, best, True, axis=1)
        mine = np.flatnonzero((row >= start) & (row < start + BLOCK_USERS))
        np.add.at(hits, row[mine], top[row[mine] - start, held.items[mine]])
    return float((hits / np.bincount(row)).mean())
