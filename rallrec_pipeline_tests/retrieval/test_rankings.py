"""Retrieve, then mix; and the quota of Hybrid-Score: against plain loops over every history item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.retrieval import relevance
from rallrec_pipeline.retrieval.rankings import by_quota, by_softmax, by_vectors
from rallrec_pipeline.retrieval.relevance import most_relevant
from rallrec_pipeline_tests.retrieval.worlds import World, make_world

seeds, lengths = st.integers(0, 10_000), st.integers(1, 8)


def other_vectors(world: World) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(world.vectors.shape).astype(np.float32)


@given(seeds, lengths)
@settings(max_examples=30)
def test_mixed_shares_rank_as_a_loop_over_every_history_does(seed: int, k: int) -> None:
    world = make_world(seed)
    parts = [(other_vectors(world), 1.0), (world.vectors, 0.5)]
    found = by_softmax(parts)(world.sequences, world.asked, k)
    for row in range(len(world.targets)):
        history, total = world.history(row), np.zeros(len(world.history(row)))
        for vectors, weight in parts:
            unit = unit_rows(vectors)
            shares = np.exp((unit[history] @ unit[world.targets[row]]).astype(np.float64))
            total += weight * shares / max(shares.sum(), 1e-300)
        chosen = [position for position in found.positions[row] if position >= 0]
        assert len(chosen) == min(k, len(history)) and (found.positions[row] < len(history)).all()
        np.testing.assert_allclose(total[chosen], np.sort(total)[::-1][: len(chosen)], rtol=1e-5)


def test_a_share_is_of_the_users_own_history_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(5, n=100)
    ranking = by_softmax([(other_vectors(world), 1.0), (world.vectors, 1.0)])
    together = ranking(world.sequences, world.asked, 4)
    monkeypatch.setattr(relevance, "BLOCK_SCORES", 1)  # each sample alone
    alone = ranking(world.sequences, world.asked, 4)
    assert (together.positions == alone.positions).all()
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-5)


@given(seeds, lengths)
@settings(max_examples=60)
def test_half_of_the_history_comes_by_each_kind_and_no_item_twice(seed: int, k: int) -> None:
    world, second = make_world(seed), other_vectors(make_world(seed))
    found = by_quota(world.vectors, second)(world.sequences, world.asked, k)
    first, rest = unit_rows(world.vectors), unit_rows(second)
    for row in range(len(world.targets)):
        history, target, quota = world.history(row), world.targets[row], (k + 1) // 2
        by_first, by_second = first[history] @ first[target], rest[history] @ rest[target]
        chosen = found.positions[row][found.positions[row] >= 0]
        leading, others = chosen[:quota], chosen[quota:]
        assert len(set(chosen)) == len(chosen) == min(k, len(history))
        np.testing.assert_allclose(by_first[leading], np.sort(by_first)[::-1][: len(leading)], atol=1e-6)
        left = np.sort(np.delete(by_second, leading))[::-1]
        np.testing.assert_allclose(by_second[others], left[: len(others)], atol=1e-6)


def test_by_vectors_is_the_dot_product() -> None:
    world = make_world(2)
    found = by_vectors(world.vectors)(world.sequences, world.asked, 3)
    assert (found.positions == most_relevant(world.sequences, world.asked, world.vectors, 3).positions).all()
