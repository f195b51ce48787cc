"""Reranking of the relevant and the recent channel (eq. 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_CELLS = 2**21  # of the table of ranks and of the rows merged at once: 8 MB, which a cache holds
DECIMALS = 12  # in floats (2/3)/2 is below 1 - 2/3: equal scores must tie


def rerank(
    relevant: NDArray[np.int32], recent: NDArray[np.int32], alpha: float, beta: float, k: int
) -> NDArray[np.int32]:
    """Eq. 8: top `k` positions (n, k) by channel score / rank^beta, best first, padded with -1.

    `relevant` and `recent` are (n, any width above 0), best first, -1 padded, each without repeats. The channel score
    is `alpha` for relevant and 1 - `alpha` for recent. An item in both channels is kept once, with the larger
    score; among equal scores relevant goes first.
    """
    by_relevance = np.round(alpha / np.arange(1, relevant.shape[1] + 1) ** beta, DECIMALS)
    by_time = np.round((1 - alpha) / np.arange(1, recent.shape[1] + 1) ** beta, DECIMALS)
    return _merge(relevant, recent, by_relevance, by_time, k)


def _merge(
    relevant: NDArray[np.int32],
    recent: NDArray[np.int32],
    by_relevance: NDArray[np.float64],
    by_time: NDArray[np.float64],
    k: int,
) -> NDArray[np.int32]:
    """The `k` best of both channels by the scores of their ranks, each position once."""
    merged = np.full(len(relevant) * k, -1, np.int32)
    recent_wins = by_time[None, :] > by_relevance[:, None]  # (relevant rank, recent rank)
    slots = np.argsort(-np.concatenate([by_relevance, by_time]), kind="stable")  # a score is that of its rank
    longest = int(max(relevant.max(initial=-1), recent.max(initial=-1))) + 1
    widest = max(longest + 1, len(slots))
    table = _RankTable(max(1, min(len(relevant), BLOCK_CELLS // widest)), longest)
    for start in range(0, len(relevant), table.rows):
        left, right = relevant[start : start + table.rows], recent[start : start + table.rows]
        left_cells, right_cells = table.cells(left), table.cells(right)
        in_recent, in_relevant = table.ranks(right_cells, of=left_cells), table.ranks(left_cells, of=right_cells)
        keep_left = (left >= 0) & ~((in_recent >= 0) & recent_wins[np.arange(left.shape[1]), in_recent])
        keep_right = (right >= 0) & ((in_relevant < 0) | recent_wins[in_relevant, np.arange(right.shape[1])])
        kept = np.concatenate([keep_left, keep_right], axis=1).take(slots, axis=1)
        places = np.cumsum(kept, axis=1, dtype=np.int32)
        kept &= places <= k
        cells = np.flatnonzero(kept)
        chosen = np.concatenate([left, right], axis=1).take(slots, axis=1)
        rows = start + cells // len(slots)
        merged[rows * k + places.ravel()[cells] - 1] = chosen.ravel()[cells]
    return merged.reshape(-1, k)


class _RankTable:
    """At which rank a channel has a position, for up to `rows` rows; positions are below `longest`."""

    def __init__(self, rows: int, longest: int) -> None:
        self.rows, self._width = rows, longest + 1  # the last cell of a row is that of the padding -1
        self._ranks = np.full(rows * self._width, -1, np.int32)  # flat: numpy looks up one index faster than two

    def cells(self, channel: NDArray[np.int32]) -> NDArray[np.int64]:
        """Where the positions (n, a) of a channel stand in the table."""
        first = np.arange(len(channel), dtype=np.int64)[:, None] * self._width
        return first + np.where(channel < 0, self._width - 1, channel)

    def ranks(self, channel: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.int32]:
        """Rank in `channel` (n, a) of each position in `of` (n, b), -1 where it does not stand there: (n, b)."""
        self._ranks[channel] = np.arange(channel.shape[1], dtype=np.int32)
        self._ranks[self._width - 1 :: self._width] = -1
        found = self._ranks[of]
        self._ranks[channel] = -1  # what was written, not all of it: histories may be long
        return found
