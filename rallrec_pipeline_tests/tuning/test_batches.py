"""How an optimizer step is cut up: everything once, within the budget, padding counted, packed rows without any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rallrec_pipeline.tuning.batches import MicroBatch, micro_batches, packed_batch
from rallrec_pipeline.tuning.examples import Example
from rallrec_pipeline_tests.tuning.tiny import PREFIX, tiny_examples


def supervised(batch: MicroBatch) -> list[tuple[int, int, int, float]]:
    """Token, choice, child and weight of each supervised place."""
    return [(int(batch.ids.flat[place]), t.choice, t.child, t.weight) for place, t in batch.targets]


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("budget", [30, 64, 100, 10_000])
def test_every_example_is_in_one_pass_within_the_budget(pack: bool, budget: int) -> None:
    examples = tiny_examples(13)
    batches = list(micro_batches(examples, budget, pack))
    found = sorted(entry for batch in batches for entry in supervised(batch))
    wanted = sorted((e.tokens[t.position], t.choice, t.child, t.weight) for e in examples for t in e.targets)
    assert found == wanted
    longest = max(len(e.tokens) for e in examples)
    assert all(batch.ids.size <= max(budget, longest) for batch in batches)
    assert len(batches) == 1 if budget == 10_000 else len(batches) > 1


def test_a_packed_row_holds_the_prefix_once_and_no_padding() -> None:
    examples = tiny_examples(5)
    batch = packed_batch(examples)
    own = [len(e.tokens) - len(PREFIX) for e in examples]
    assert batch.lengths == (len(PREFIX), *own) and batch.padding == 0
    assert batch.ids.shape == (1, len(PREFIX) + sum(own))
    assert tuple(batch.ids[0, : len(PREFIX)]) == PREFIX
    assert batch.positions is not None
    start = len(PREFIX)
    for example, n in zip(examples, own, strict=True):
        assert tuple(batch.ids[0, start : start + n]) == example.tokens[len(PREFIX) :]
        np.testing.assert_array_equal(batch.positions[0, start : start + n], len(PREFIX) + np.arange(n))
        start += n


def test_a_short_prefix_and_a_single_example_stay_whole() -> None:
    examples = [replace(e, tokens=(number, *e.tokens[1:])) for number, e in enumerate(tiny_examples(3))]
    assert packed_batch(examples).lengths == (0, *(len(e.tokens) for e in examples))
    assert packed_batch(examples[:1]).lengths == (0, len(examples[0].tokens))


def test_groups_are_even() -> None:
    examples = [Example(PREFIX + (8 + number,) * 10, ()) for number in range(12)]
    sizes = [len(batch.lengths or ()) - 1 for batch in micro_batches(examples, 100, pack=True)]
    assert sizes == [6, 6]  # and not eight and four


def test_padding_is_what_holds_no_token() -> None:
    examples = tiny_examples(7)
    (batch,) = micro_batches(examples, 10_000, pack=False)
    lengths = [len(e.tokens) for e in examples]
    assert batch.padding == 7 * max(lengths) - sum(lengths) > 0
