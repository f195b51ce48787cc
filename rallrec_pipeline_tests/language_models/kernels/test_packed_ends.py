"""Ends of prompts that stand in one row behind their beginning do not see one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.kernels import forward
from rallrec_pipeline.language_models.kernels.packed_ends import packed_row, packs
from rallrec_pipeline.settings import ModelSettings
from rallrec_pipeline_tests.language_models.small_llama import LIVELY, write_llama

ANSWERS = ("1", "2", "3")


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 50))
def test_packs_hold_every_end_once_in_order_and_no_more_than_they_may(lengths: list[int], most: int) -> None:
    made = packs(lengths, most)
    assert [place for part in made for place in part] == list(range(len(lengths)))
    assert all(len(part) == 1 or sum(lengths[place] for place in part) <= most for part in made)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 200), st.integers(2, 4))
def test_packs_that_leave_workers_idle_are_cut_as_evenly_as_can_be(lengths: list[int], most: int, workers: int) -> None:
    def longest(runs: Iterable[Sequence[int]]) -> int:
        return max(sum(lengths[place] for place in run) for run in runs)

    made = packs(lengths, most, workers)
    assert [place for run in made for place in run] == list(range(len(lengths)))
    if len(packs(lengths, most)) >= workers:
        assert made == packs(lengths, most)
        return
    cuts = combinations(range(1, len(lengths)), min(workers, len(lengths)) - 1)
    best = min(longest(map(range, (0, *cut), (*cut, len(lengths)))) for cut in cuts)
    assert len(made) <= workers and longest(made) == best


def test_ten_candidates_of_a_request_are_work_for_both_threads() -> None:
    assert packs([12] * 10, 256, 2) == [range(5), range(5, 10)]


def test_a_token_sees_the_beginning_and_what_is_before_it_in_its_own_end() -> None:
    row = packed_row([[5, 6], [7]], 3, torch.device("cpu"))
    assert row.ids.tolist() == [[5, 6, 7]] and row.positions.tolist() == [[3, 4, 3]]
    seen = [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1]]
    assert row.mask[0, 0].int().tolist() == seen
    assert row.places.tolist() == [[0, 1], [2, 2]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TransformersEngine:
    folder = write_llama(tmp_path_factory.mktemp("llm") / "model", LIVELY | {"max_position_embeddings": 2048})
    return TransformersEngine.load(folder, ModelSettings(dtype="float32", tokens_per_batch=256))


def candidates(users: int, each: int) -> list[str]:
    """Prompts of some users, each with one history and several targets of different lengths."""
    histories = [f"Ratings of user {user}:\n" + f"Title {user} of a film:{user + 1}\n" * 6 for user in range(users)]
    return [history + "Another title"[: 3 + number] + f" {number}:" for history in histories for number in range(each)]


@pytest.mark.parametrize(("users", "each"), [(1, 50), (3, 7)])
def test_packed_candidates_have_the_answers_that_each_has_alone(
    tiny: TransformersEngine, monkeypatch: pytest.MonkeyPatch, users: int, each: int
) -> None:
    prompts, rows = candidates(users, each), 0

    def counting(*arguments: object) -> object:
        nonlocal rows
        rows += 1
        return packed_row(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(forward, "packed_row", counting)
    together = tiny.score(prompts, ANSWERS, chat=False)
    assert 0 < rows < len(prompts) / 2
    alone = np.concatenate([tiny.score([prompt], ANSWERS, chat=False) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_history_is_counted_once_for_all_its_candidates(tiny: TransformersEngine) -> None:
    prompts = candidates(1, 20)
    tokens = [tiny.prompt_tokens(prompt, chat=False) for prompt in prompts]
    shared = next(n for n in range(len(tokens[0])) if len({row[n] for row in tokens}) > 1)
    before = tiny.usage.prompt_tokens
    tiny.score(prompts, ANSWERS, chat=False)
    own = sum(len(row) - shared for row in tokens)
    assert shared < tiny.usage.prompt_tokens - before <= shared + own  # ends that begin alike share that too
