"""One optimizer step cut into forward passes that fit the memory, with as little padding as can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.language_models.kernels.batching import padded, token_batches
from rallrec_pipeline.language_models.kernels.sections import worthwhile_prefix
from rallrec_pipeline.tuning.examples import Example, Target


@dataclass(frozen=True)
class MicroBatch:
    """Examples that go through the model together.

    `ids` has shape (rows, width), int64. `targets` are those of all `examples`, each with its place in the flattened
    ids; `answers` are the places of the examples' `answer_at`, in their order.
    """

    ids: NDArray[np.int64]
    targets: list[tuple[int, Target]]
    examples: Sequence[Example]
    answers: list[int]
    lengths: tuple[int, ...] | None = None
    """Of a packed row: tokens of the shared prefix (perhaps none), then of each example behind it."""
    padding: int = 0
    """Places that hold no token."""

    @property
    def positions(self) -> NDArray[np.int64] | None:
        """Of a packed row: where each token stands in its example, shape (1, width)."""
        if self.lengths is None:
            return None
        shared, *own = self.lengths
        return np.concatenate([np.arange(shared), *(np.arange(shared, shared + n) for n in own)])[None]


def micro_batches(examples: Sequence[Example], tokens_per_batch: int, pack: bool) -> Iterator[MicroBatch]:
    """All `examples`, packed into rows of equal length or padded in order of length."""
    if pack:
        for group in _even_groups(examples, tokens_per_batch):
            yield packed_batch(group)
    else:
        for rows in token_batches([len(e.tokens) for e in examples], tokens_per_batch):
            yield padded_batch([examples[row] for row in rows])


def padded_batch(examples: Sequence[Example]) -> MicroBatch:
    """One row an example, padded on the right. Attention is causal, so no token sees a pad."""
    ids = padded([e.tokens for e in examples], 0)
    width = ids.shape[1]
    targets = [(row * width + t.position, t) for row, e in enumerate(examples) for t in e.targets]
    answers = [row * width + e.answer_at for row, e in enumerate(examples)]
    return MicroBatch(ids, targets, examples, answers, padding=ids.size - sum(len(e.tokens) for e in examples))


def packed_batch(examples: Sequence[Example]) -> MicroBatch:
    """One row of all examples end to end, the tokens that all begin with once, in front.

    What a token sees is decided by `packed_attention`: the shared tokens, and its own example's before it.
    """
    shared = worthwhile_prefix([e.tokens for e in examples])
    own = [len(e.tokens) - shared for e in examples]
    starts = [shared, *accumulate(own, initial=shared)][1:-1]
    ids = np.fromiter(chain(examples[0].tokens[:shared], *(e.tokens[shared:] for e in examples)), np.int64)

    def place(start: int, position: int) -> int:
        return position if position < shared else start + position - shared

    placed = list(zip(starts, examples, strict=True))
    targets = [(place(start, t.position), t) for start, e in placed for t in e.targets]
    answers = [place(start, e.answer_at) for start, e in placed]
    return MicroBatch(ids[None], targets, examples, answers, (shared, *own))


def _even_groups(examples: Sequence[Example], tokens_per_batch: int) -> Iterator[list[Example]]:
    """Consecutive examples in as few groups as the budget allows, of about equal size.

    A group exceeds the budget only where one example alone does.
    """
    shared = worthwhile_prefix([e.tokens for e in examples])
    own = [len(e.tokens) - shared for e in examples]
    room = max(1, tokens_per_batch - shared - max(own))  # an example that straddles an edge goes to one side whole
    groups = -(-sum(own) // room) if sum(own) > tokens_per_batch - shared else 1
    middles = [end - n / 2 for end, n in zip(accumulate(own), own, strict=True)]
    numbers = [int(middle * groups / sum(own)) for middle in middles]
    for number in dict.fromkeys(numbers):
        yield [e for e, n in zip(examples, numbers, strict=True) if n == number]
