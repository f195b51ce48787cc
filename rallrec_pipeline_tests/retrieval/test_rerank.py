import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.retrieval import rerank as module
from rallrec_pipeline.retrieval.relevance import most_recent, most_relevant
from rallrec_pipeline.retrieval.rerank import rerank
from rallrec_pipeline_tests.retrieval.worlds import make_world


def row(*positions: int) -> np.ndarray:
    return np.array([positions], np.int32)


def test_equation_8_by_hand() -> None:
    # alpha 2/3: relevant 7: 0.667, 3: 0.333, 1: 0.222; recent 9: 0.333, 8: 0.167, 7: 0.111 (kept at 0.667)
    # relevant goes first where 3 and 9 tie
    assert rerank(row(7, 3, 1), row(9, 8, 7), 2 / 3, 1.0, 3).tolist() == [[7, 3, 9]]
    assert rerank(row(7, 3, 1), row(9, 8, 7), 2 / 3, 1.0, 5).tolist() == [[7, 3, 9, 1, 8]]


def test_an_item_in_both_channels_keeps_its_larger_score() -> None:
    # 9 is third by relevance (0.167) and first by time (0.5), so it stands level with 7, above 3 (0.25)
    assert rerank(row(7, 3, 9), row(9, 8, 2), 1 / 2, 1.0, 4).tolist() == [[7, 9, 3, 8]]


def test_beta_zero_ranks_by_channel_and_alpha_one_ignores_time() -> None:
    assert rerank(row(1, 2), row(5, 4), 4 / 5, 0.0, 4).tolist() == [[1, 2, 5, 4]]
    assert rerank(row(1, 2), row(5, 4), 1.0, 1.0, 2).tolist() == [[1, 2]]


@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.5, 2 / 3, 0.8]))
@settings(max_examples=40)
def test_no_repeats_no_gaps_and_nothing_outside_the_channels(seed: int, k: int, alpha: float) -> None:
    world = make_world(seed)
    relevant = most_relevant(world.sequences, world.asked, world.vectors, k).positions
    recent = most_recent(world.history_lengths, k).positions
    chosen = rerank(relevant, recent, alpha, 1.0, k)
    assert chosen.dtype == np.int32
    assert chosen.shape == relevant.shape
    for a, b, c, length in zip(relevant, recent, chosen, world.history_lengths, strict=True):
        kept = c[c >= 0].tolist()
        assert len(set(kept)) == len(kept) == min(k, length)
        assert set(kept) <= set(a.tolist()) | set(b.tolist())
        assert (c[len(kept) :] == -1).all()


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.5, 0.8]))
@settings(max_examples=60)
def test_equation_8_one_row_at_a_time(seed: int, wide: int, narrow: int, k: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    relevant, recent = (_padded(rng, width) for width in (wide, narrow))
    expected = []
    for a, b in zip(relevant.tolist(), recent.tolist(), strict=True):
        scores: dict[int, tuple[float, int]] = {}
        for channel, (weight, positions) in enumerate(((alpha, a), (1 - alpha, b))):
            for rank, position in enumerate(positions, start=1):
                score = (-round(weight / rank, 12), channel)  # the larger score, then relevant before recent
                if position >= 0:
                    scores[position] = min(score, scores.get(position, score))
        kept = sorted(scores, key=lambda position: scores[position])[:k]
        expected.append(kept + [-1] * (k - len(kept)))
    assert rerank(relevant, recent, alpha, 1.0, k).tolist() == expected


def _padded(rng: np.random.Generator, width: int) -> np.ndarray:
    """Five rows of up to `width` different positions, the rest padding."""
    rows = np.array([rng.permutation(10)[:width] for _ in range(5)], np.int32)
    return np.where(np.arange(width) < rng.integers(0, width + 1, (5, 1)), rows, -1).astype(np.int32)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    relevant, recent = (np.array([rng.permutation(9)[:4] for _ in range(30)], np.int32) for _ in range(2))
    whole = rerank(relevant, recent, 2 / 3, 1.0, 4)
    monkeypatch.setattr(module, "BLOCK_CELLS", 70)  # seven rows at once
    assert (whole == rerank(relevant, recent, 2 / 3, 1.0, 4)).all()
