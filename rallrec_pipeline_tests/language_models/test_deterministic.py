"""In the deterministic mode P(answer) is the same bit for bit, whatever a prompt is asked together with."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.language_models.engines.choice import EngineChoice, load_chosen
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import ModelSettings

ANSWERS = ("1", "2", "3", "4", "5")


@pytest.fixture
def deterministic(engine: TransformersEngine) -> Iterator[TransformersEngine]:
    """The real LLM in that mode."""
    engine.deterministic = True
    yield engine
    engine.deterministic = False


def prompts(count: int) -> list[str]:
    """Ratings of made-up users: of different lengths, and several of one history."""
    draw = random.Random(4)
    histories = [
        "".join(
            f"Film {draw.randrange(999)} ({draw.random() * 4 + 1:.1f}):{draw.randint(1, 5)}\n" for _ in range(n % 7 + 1)
        )
        for n in range(count // 4 + 1)
    ]
    return [f"Movie ratings from 1 to 5.\n{histories[n // 4]}Film {draw.randrange(999)}:" for n in range(count)]


def in_chunks(engine: TransformersEngine, asked: list[str], order: list[int], size: int) -> NDArray[np.float64]:
    """The answers to `asked`, in its order, asked in another order and in chunks."""
    found = np.zeros((len(asked), len(ANSWERS)))
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        found[rows] = engine.score([asked[row] for row in rows], ANSWERS, chat=False)
    return found


def test_order_chunks_and_neighbours_change_no_bit(deterministic: TransformersEngine) -> None:
    asked = prompts(8)
    whole = deterministic.score(asked, ANSWERS, chat=False)
    turned = list(range(len(asked)))[::-1]
    np.testing.assert_array_equal(in_chunks(deterministic, asked, turned, 3), whole)
    np.testing.assert_array_equal(in_chunks(deterministic, asked, turned, 1), whole)


def test_the_quick_mode_differs_by_rounding_alone(deterministic: TransformersEngine) -> None:
    asked = prompts(8)
    exact = deterministic.score(asked, ANSWERS, chat=False)
    deterministic.deterministic = False
    np.testing.assert_allclose(deterministic.score(asked, ANSWERS, chat=False), exact, atol=1e-5)


@pytest.mark.slow
def test_many_requests_are_the_batch_bit_for_bit(deterministic: TransformersEngine) -> None:
    """Two cores take an hour or more for 10,000: RALLREC_REQUESTS asks for fewer."""
    asked = prompts(int(os.environ.get("RALLREC_REQUESTS", "10000")))
    order = list(range(len(asked)))
    batch = in_chunks(deterministic, asked, order, 256)
    random.Random(1).shuffle(order)
    np.testing.assert_array_equal(in_chunks(deterministic, asked, order, 1), batch)


def test_vllm_cannot_be_asked_for_it(tmp_path: Path) -> None:
    choice = EngineChoice("vllm", "the settings ask for it", "1")
    with pytest.raises(ConfigError, match=r"set model\.engine to transformers"):
        load_chosen(choice, tmp_path, ModelSettings(deterministic=True))
