"""Batches by token budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.language_models.kernels.batching import HELD, token_batches


@given(
    lengths=st.lists(st.integers(1, 300), max_size=60),
    budget=st.integers(1, 2000),
    shared=st.integers(0, 500),
)
def test_batches_hold_every_sequence_once_within_both_budgets(lengths: list[int], budget: int, shared: int) -> None:
    batches = [list(rows) for rows in token_batches(lengths, budget, shared)]
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest == sorted(longest, reverse=True)
    for rows, length in zip(batches, longest, strict=True):
        alone = len(rows) == 1
        assert alone or len(rows) * length <= budget
        assert alone or not shared or len(rows) * (shared + length) <= HELD * budget
