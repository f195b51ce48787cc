"""Batches by token budget over length-sorted sequences, so that padding is nearly nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

HELD = 2  # tokens whose keys and values are held, for each token of the budget


def token_batches(lengths: Sequence[int], tokens_per_batch: int, shared: int = 0) -> Iterator[NDArray[np.int64]]:
    """Positions of sequences, longest first, so that rows x longest stays within the budget.

    Every row also holds keys and values of `shared` tokens before it: with them rows x length stays within `HELD`
    budgets. The longest comes first: if memory does not suffice, it fails at once and not at the end.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        held = HELD * tokens_per_batch if shared else tokens_per_batch
        rows = max(1, min(tokens_per_batch // longest, held // (shared + longest)))
        yield order[start : start + rows]
        start += rows


def padded(sequences: Sequence[Sequence[int]], fill: int) -> NDArray[np.int64]:
    """Right-padded token ids, shape (n, longest)."""
    width = max(map(len, sequences))
    out = np.full((len(sequences), width), fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        out[row, : len(sequence)] = sequence
    return out
