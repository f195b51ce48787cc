"""The K history items of a sample: the most relevant to the target, or the most recent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.sequences import UserSequences

BLOCK_SCORES = 2**22  # similarities held at once: 16 MB of float32, and twice that of sort keys
NO_ITEM = -1  # padding of positions
_MASKED = np.iinfo(np.int64).min

Similarity = Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], NDArray[np.float32]]
"""Of m targets to h history items: item codes (m,), item codes (h,), history lengths (m,) -> (m, h)."""


@dataclass(frozen=True)
class Asked:
    """Whose history each of n samples has, how much of it, and the item that lines are chosen for: (n,) int32 each.

    A history is the first `history_lengths` interactions of its user, so nothing later can be chosen.
    """

    user_codes: NDArray[np.int32]
    history_lengths: NDArray[np.int32]
    targets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: slice) -> Asked:
        return Asked(self.user_codes[rows], self.history_lengths[rows], self.targets[rows])


@dataclass(frozen=True)
class Retrieved:
    """Chosen history positions of n samples, best first.

    `positions` (n, k) int32 counts from the user's oldest interaction; -1 pads short histories.
    `scores` (n, k) float32 is the dot product (or 1/rank, where time decides); 0 where padded.
    """

    positions: NDArray[np.int32]
    scores: NDArray[np.float32]


def most_relevant(sequences: UserSequences, samples: Asked, vectors: NDArray[np.float32], k: int) -> Retrieved:
    """Of each sample's own history, the `k` items with the largest dot product with the target.

    `vectors` is (n_items, d); for the rest see `most_similar`.
    """

    def dot_product(
        asked: NDArray[np.int32], history: NDArray[np.int32], lengths: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = vectors[asked] @ vectors[history].T  # (m, d) @ (d, h) -> (m, h)
        return found

    return most_similar(sequences, samples, dot_product, k)


def most_similar(sequences: UserSequences, samples: Asked, similarity: Similarity, k: int) -> Retrieved:
    """Of each sample's own history, the `k` items most similar to the target. Among equals the later wins."""
    positions = np.full((len(samples), k), NO_ITEM, np.int32)
    scores = np.zeros((len(samples), k), np.float32)
    for user, rows in _user_blocks(samples.user_codes, samples.history_lengths):
        lengths = samples.history_lengths[rows]
        start = sequences.offsets[user]
        history = sequences.items[start : start + lengths.max()]
        similar = similarity(samples.targets[rows], history, lengths)
        chosen = _top(similar, lengths, k)
        width = chosen.shape[1]
        found = chosen >= 0
        values = np.take_along_axis(similar, np.maximum(chosen, 0), axis=1)
        positions[rows, :width] = chosen
        scores[rows, :width] = np.where(found, values, 0)
    return Retrieved(positions, scores)


def most_recent(history_lengths: NDArray[np.int32], k: int) -> Retrieved:
    """The last `k` items of each history, newest first; scores are 1/rank. `history_lengths` is (n,)."""
    rank = np.arange(1, k + 1, dtype=np.int32)
    positions = np.maximum(history_lengths[:, None].astype(np.int32) - rank, NO_ITEM)
    scores = np.where(positions >= 0, 1 / rank, 0)
    return Retrieved(positions, scores.astype(np.float32))


def in_time_order(positions: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each row's positions from oldest to newest, the padding kept at the end."""
    last = np.iinfo(np.int32).max
    ordered = np.sort(np.where(positions < 0, last, positions), axis=1)
    return np.where(ordered == last, NO_ITEM, ordered).astype(np.int32)


def _user_blocks(
    user_codes: NDArray[np.int32], history_lengths: NDArray[np.int32]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Rows of one user with a history, cut so that a block's similarities stay in `BLOCK_SCORES`."""
    order = np.lexsort((history_lengths, user_codes))
    order = order[history_lengths[order] > 0]
    if not len(order):
        return
    starts = np.flatnonzero(np.diff(user_codes[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        step = max(1, BLOCK_SCORES // int(history_lengths[rows[-1]]))
        for first in range(0, len(rows), step):
            block = rows[first : first + step]
            yield int(user_codes[block[0]]), block


def _top(similarity: NDArray[np.float32], lengths: NDArray[np.int32], k: int) -> NDArray[np.int32]:
    """Positions (m, min(k, longest)) of the largest values below each row's length, -1 where there are fewer.

    Value and position are packed into one integer, so that selection is exact and ties are broken by position.
    """
    longest = similarity.shape[1]
    bits = (similarity + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal to 0.0
    bits ^= (bits >> 31) & 0x7FFFFFFF  # integers in the order of the floats
    position = np.arange(longest, dtype=np.int64)
    keys = bits.astype(np.int64)
    keys <<= 32
    keys |= position
    keys[position >= lengths[:, None]] = _MASKED
    if k < longest:
        keys.partition(longest - k, axis=1)
        keys = keys[:, longest - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    return np.where(keys == _MASKED, NO_ITEM, keys & 0xFFFFFFFF).astype(np.int32)
