from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.retrieval import relevance
from rallrec_pipeline.retrieval.relevance import in_time_order, most_recent, most_relevant
from rallrec_pipeline_tests.retrieval.worlds import World, make_world


def brute_force(world: World, row: int, k: int) -> tuple[list[int], list[float]]:
    scores = [float(world.vectors[world.targets[row]] @ world.vectors[item]) for item in world.history(row)]
    order = sorted(range(len(scores)), key=lambda p: (-scores[p], -p))[:k]
    padding = k - len(order)
    return order + [-1] * padding, [scores[p] for p in order] + [0.0] * padding


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=60)
def test_equals_a_loop_over_every_history_item(seed: int, k: int) -> None:
    world = make_world(seed)
    found = most_relevant(world.sequences, world.asked, world.vectors, k)
    assert found.positions.dtype == np.int32
    assert found.scores.dtype == np.float32
    assert (found.positions < world.history_lengths[:, None]).all()
    for row in range(len(world.targets)):
        assert (found.positions[row].tolist(), found.scores[row].tolist()) == brute_force(world, row, k)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(3, n=200)
    arguments = (world.sequences, world.asked, world.vectors, 4)
    whole = most_relevant(*arguments)
    monkeypatch.setattr(relevance, "BLOCK_SCORES", 10)
    cut = most_relevant(*arguments)
    assert (whole.positions == cut.positions).all()
    assert (whole.scores == cut.scores).all()


def test_minus_zero_ties_with_zero() -> None:
    similarity = np.array([[0.0, -0.0, -1.0]], np.float32)
    assert relevance._top(similarity, np.array([3], np.int32), 3).tolist() == [[1, 0, 2]]


def test_no_history_is_all_padding() -> None:
    world = make_world(0)
    none = replace(world.asked, history_lengths=np.zeros_like(world.history_lengths))
    found = most_relevant(world.sequences, none, world.vectors, 3)
    assert (found.positions == -1).all()
    assert not found.scores.any()


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(1, 10))
def test_most_recent_counts_back_from_the_newest(lengths: list[int], k: int) -> None:
    found = most_recent(np.array(lengths, np.int32), k)
    assert found.positions.dtype == np.int32
    for row, length in zip(found.positions.tolist(), lengths, strict=True):
        newest = list(range(length))[::-1][:k]
        assert row == newest + [-1] * (k - len(newest))


def test_time_order_keeps_padding_last() -> None:
    assert in_time_order(np.array([[4, 0, 2, -1], [-1, -1, -1, -1]], np.int32)).tolist() == [[0, 2, 4, -1], [-1] * 4]
