"""The user-item graph: its normalised adjacency, propagation (eq. 4), and scores on held-out edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.datasets.draws import pair_draws

if TYPE_CHECKING:
    import torch

BLOCK_USERS = 256  # users whose item scores are held at once
LONGEST_PIECE = 1024  # entries of a matrix row that are added up in one go
HELD_OUT = 0.1  # share of the training interactions that chooses the epoch


@dataclass(frozen=True)
class Edges:
    """Interactions as arrays (n,): `users` and `items` int64 codes, `values` float32 edge weights."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.float32]

    def __getitem__(self, rows: NDArray[Any] | slice) -> Edges:
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


@dataclass(frozen=True)
class Adjacency:
    """Symmetric sparse matrix (m, m): `columns` int64 and `values` float32 (entries,), row by row, cut into pieces.

    `pieces` (pieces + 1,) int64 says where in the entries each piece begins, `rows` (m + 1,) with which piece each row
    does. No piece is longer than `LONGEST_PIECE`: on a GPU a thread walks along each, and popular items are few.
    """

    columns: torch.Tensor
    values: torch.Tensor
    pieces: torch.Tensor
    rows: torch.Tensor

    def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
        """Product with `x` (m, d) float32 as weighted sums of its rows, without a gradient.

        `embedding_bag` adds in a fixed order, whatever the number of threads, on a GPU too. On a CPU it takes a third
        of the time of PyTorch's product of a CSR matrix, and less than a tenth of that of a COO one.
        """
        import torch

        bags = torch.nn.functional.embedding_bag
        sums = bags(
            self.columns, x, self.pieces, mode="sum", per_sample_weights=self.values, include_last_offset=True
        )  # (pieces, d)
        if len(self.pieces) == len(self.rows):
            return sums
        numbers = torch.arange(len(sums), device=x.device)
        return bags(numbers, sums, self.rows, mode="sum", include_last_offset=True)


def adjacency(edges: Edges, n_users: int, n_items: int, device: torch.device | str = "cpu") -> Adjacency:
    """Matrix of users, then items: value / sqrt(|degree of user| |degree of item|)."""
    import torch

    strength = np.abs(edges.values)
    user_degree = np.bincount(edges.users, strength, n_users)
    item_degree = np.bincount(edges.items, strength, n_items)
    degree = user_degree[edges.users] * item_degree[edges.items]
    values = np.divide(edges.values, np.sqrt(degree), out=np.zeros(len(edges)), where=degree > 0)
    rows = np.concatenate([edges.users, edges.items + n_users])
    columns = np.concatenate([edges.items + n_users, edges.users])
    order = np.lexsort((columns, rows))
    entries = np.concatenate([values, values])[order].astype(np.float32)
    pieces = _pieces(np.bincount(rows, minlength=n_users + n_items))
    return Adjacency(*(torch.from_numpy(part).to(device) for part in (columns[order], entries, *pieces)))


def _pieces(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`pieces` and `rows` of an `Adjacency` whose rows have `counts` entries; an empty row is one empty piece."""
    in_row = np.maximum(1, -(-counts // LONGEST_PIECE))
    rows = np.concatenate([[0], np.cumsum(in_row)])
    number = np.arange(rows[-1]) - np.repeat(rows[:-1], in_row)  # of the piece in its row
    starts = np.repeat(np.cumsum(counts) - counts, in_row) + number * LONGEST_PIECE
    return np.append(starts, counts.sum()), rows


def propagate(matrix: Adjacency, weights: torch.Tensor, layers: int) -> torch.Tensor:
    """Eq. 4: mean over 0..`layers` of matrix^l @ weights, for a symmetric `matrix` (m, m) and (m, d) weights.

    It is linear and symmetric, so it is its own backward pass: the gradient with respect to `weights` is the gradient
    with respect to the result, propagated.
    """
    total = weights
    for _ in range(layers):  # Horner's rule: one product and one sum a layer
        total = (matrix @ total).add_(weights)
    return total / (layers + 1)


def correlation(users: NDArray[np.float32], items: NDArray[np.float32], held: Edges) -> float:
    """Pearson correlation of the dot products of `users` and `items` vectors with the values of `held` edges."""
    fit = np.einsum("nd,nd->n", users[held.users], items[held.items], dtype=np.float64)
    spread = fit.std() * held.values.std()
    return float(((fit - fit.mean()) * (held.values - held.values.mean())).mean() / spread) if spread > 0 else 0.0


class Recall:
    """Recall@`k` on `held` edges with `known` ones taken out: the mean over users of the share found of their items."""

    def __init__(self, k: int, known: Edges, held: Edges) -> None:
        self.k = k
        self.judged = np.unique(held.users)
        self.known = self._by_user(known[np.isin(known.users, self.judged)])
        self.held = self._by_user(held)

    def __call__(self, users: torch.Tensor, items: torch.Tensor) -> float:
        """The score of vectors (n_users, d) and (n_items, d)."""
        import torch

        width = min(self.k, len(items))
        hits = np.zeros(len(self.held), bool)
        for start in range(0, len(self.judged), BLOCK_USERS):
            block = self.judged[start : start + BLOCK_USERS]
            scores = users[torch.from_numpy(block).to(users.device)] @ items.T  # (block, n_items)
            scores[self._entries(self.known, start, scores)] = -torch.inf
            best = torch.topk(scores, width, sorted=False).indices
            top = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(1, best, True)
            found = top[self._entries(self.held, start, scores)]
            hits[_slice(self.held, start)] = found.cpu().numpy()
        of_user = self.held.users
        return float((np.bincount(of_user, hits) / np.bincount(of_user)).mean())

    def _by_user(self, edges: Edges) -> Edges:
        """`edges` in the order of their users, which become places in `judged`."""
        places = np.searchsorted(self.judged, edges.users)
        order = np.argsort(places, kind="stable")
        return Edges(places[order], edges.items[order], edges.values[order])

    @staticmethod
    def _entries(edges: Edges, start: int, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and columns of `scores` that `edges` of the block at `start` are in."""
        import torch

        some = edges[_slice(edges, start)]
        return torch.from_numpy(some.users - start).to(scores.device), torch.from_numpy(some.items).to(scores.device)


def _slice(edges: Edges, start: int) -> slice:
    """Where in sorted `edges` the block of users that begins at `start` lies."""
    first, last = np.searchsorted(edges.users, [start, start + BLOCK_USERS])
    return slice(int(first), int(last))
