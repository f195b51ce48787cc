"""The measure of agreement itself."""

from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.language_models.agreement import Questions, Reading, compare, read_engine
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

RNG = np.random.default_rng(3)
P_YES = RNG.uniform(0.2, 0.8, 50)
VECTORS = RNG.normal(size=(20, 8)).astype(np.float32)


def reading(change: float = 0.0, turn: float = 0.0) -> Reading:
    noise = RNG.normal(size=VECTORS.shape).astype(np.float32)
    return Reading([P_YES, P_YES + change], VECTORS + turn * noise)


def test_equal_readings_agree_wholly() -> None:
    found = compare(reading(), reading())
    assert (found.prompts, found.texts, found.max_difference) == (100, 20, 0.0)
    assert found.rank_correlation == pytest.approx(1.0) and found.min_cosine == pytest.approx(1.0)
    assert found.problems == []


def test_each_bound_is_reported() -> None:
    shifted = compare(reading(), reading(change=0.03))
    assert shifted.max_difference == pytest.approx(0.03) and shifted.mean_difference == pytest.approx(0.015)
    assert len(shifted.problems) == 1 and "0.0300" in shifted.problems[0]
    turned = compare(reading(), reading(turn=0.2))
    assert len(turned.problems) == 1 and "cosine" in turned.problems[0]
    reordered = compare(reading(), Reading([P_YES, P_YES[::-1]], VECTORS))
    assert any("rankings" in problem for problem in reordered.problems)


def test_what_is_not_finite_is_the_worst() -> None:
    broken = np.array([np.nan, *P_YES[1:]])
    empty = VECTORS.copy()
    empty[3] = 0
    found = compare(reading(), Reading([P_YES, broken], empty))
    assert found.max_difference == np.inf and found.min_cosine == -1.0 and len(found.problems) == 3


def test_an_engine_is_read_by_its_liked_answers(engine: TransformersEngine) -> None:
    prompts = ["Ratings from 1 to 5:\nHeat: 4\nAlien:", "Ratings from 1 to 5:\nHeat: 1\nAlien:"]
    liked = [False, False, False, True, True]
    found = read_engine(engine, [Questions(prompts, list("12345"), liked, chat=False)], ["Heat"])
    expected = engine.score(prompts, list("12345"), chat=False)[:, 3:].sum(1)
    np.testing.assert_allclose(found.p_yes[0], expected, atol=1e-6)
    assert found.vectors.shape == (1, engine.model.config.hidden_size)
