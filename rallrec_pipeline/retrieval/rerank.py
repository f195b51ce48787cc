"""Reranking of the relevant and the recent channel (eq. 8), and the published code's fixed quota."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 8192  # rows compared at once: (rows, k, k) booleans
DECIMALS = 12  # in floats (2/3)/2 is below 1 - 2/3: equal scores must tie


def rerank(
    relevant: NDArray[np.int32], recent: NDArray[np.int32], alpha: float, beta: float, k: int
) -> NDArray[np.int32]:
    """Eq. 8: top `k` positions (n, k) by channel score / rank^beta, best first, padded with -1.

    `relevant` and `recent` are (n, any width), best first, -1 padded, each without repeats. The channel score
    is `alpha` for relevant and 1 - `alpha` for recent. An item in both channels is kept once, with the larger
    score; among equal scores relevant goes first.
    """
    by_relevance = np.round(alpha / np.arange(1, relevant.shape[1] + 1) ** beta, DECIMALS)
    by_time = np.round((1 - alpha) / np.arange(1, recent.shape[1] + 1) ** beta, DECIMALS)
    return _merge(relevant, recent, by_relevance, by_time, k)


def fixed_quota(relevant: NDArray[np.int32], recent: NDArray[np.int32], k: int) -> NDArray[np.int32]:
    """The published code's variant: 2k/3 relevant, then recent ones up to `k`; shapes as in `rerank`."""
    quota = 2 * k // 3
    rank_relevant, rank_recent = np.arange(relevant.shape[1]), np.arange(recent.shape[1])
    by_relevance = np.where(rank_relevant < quota, 3.0, 1.0) - rank_relevant / relevant.shape[1] / 2
    by_time = 2.0 - rank_recent / recent.shape[1] / 2
    return _merge(relevant, recent, by_relevance, by_time, k)


def _merge(
    relevant: NDArray[np.int32],
    recent: NDArray[np.int32],
    by_relevance: NDArray[np.float64],
    by_time: NDArray[np.float64],
    k: int,
) -> NDArray[np.int32]:
    """The `k` best of both channels by the scores of their ranks, each position once."""
    merged = np.full((len(relevant), k), -1, np.int32)
    recent_wins = by_time[None, :] > by_relevance[:, None]  # (relevant rank, recent rank)
    for start in range(0, len(relevant), BLOCK_ROWS):
        left, right = relevant[start : start + BLOCK_ROWS], recent[start : start + BLOCK_ROWS]
        both = left[:, :, None] == right[:, None, :]  # (rows, relevant rank, recent rank)
        drop_left = (left < 0) | (both & recent_wins).any(axis=2)
        drop_right = (right < 0) | (both & ~recent_wins).any(axis=1)
        scores = np.concatenate(
            [np.where(drop_left, -np.inf, by_relevance), np.where(drop_right, -np.inf, by_time)], axis=1
        )
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(np.concatenate([left, right], axis=1), order, axis=1)
        dropped = np.isneginf(np.take_along_axis(scores, order, axis=1))
        merged[start : start + BLOCK_ROWS, : order.shape[1]] = np.where(dropped, -1, kept)
    return merged
