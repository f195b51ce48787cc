"""The learned reranker against plain loops, and on users whose likings are planted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.retrieval.candidates import FEATURES, POOL, Lines, candidate_lines
from rallrec_pipeline.retrieval.learned import LearnedReranker, learn_reranker
from rallrec_pipeline.retrieval.neighbours import Rows, neighbour_auc
from rallrec_pipeline.retrieval.rankings import by_quota, by_softmax, by_vectors
from rallrec_pipeline_tests.retrieval.worlds import World, make_world

EQUAL = LearnedReranker(np.ones(len(FEATURES)), 1)


def lines_of(world: World, k: int) -> Lines:
    return candidate_lines(world.sequences, world.asked, by_vectors(world.vectors), k)


def planted(n: int, seed: int, telling: str) -> tuple[UserSequences, Rows, np.ndarray]:
    """Each of `n` users has 24 ratings and then a target; what tells its label is similarity, or the last ratings."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    kinds = rng.integers(0, 6, (n, 24))
    of_target = rng.integers(0, 6, n)
    telling_lines = kinds == of_target[:, None] if telling == "similarity" else np.arange(24)[None, :] >= 22
    ratings = np.where(telling_lines, np.where(labels == 1, 5, 1)[:, None], rng.integers(1, 6, (n, 24)))
    vectors = np.eye(6, dtype=np.float32)  # one item a kind is enough: sequences may repeat
    names = [f"u{u}" for u in range(n)], [f"i{i}" for i in range(6)]
    offsets = np.arange(n + 1, dtype=np.int64) * 24
    sequences = UserSequences(*names, offsets, kinds.ravel().astype(np.int32), ratings.ravel().astype(np.float32))
    users, lengths = np.arange(n, dtype=np.int32), np.full(n, 24, np.int32)
    return sequences, Rows(users, lengths, of_target.astype(np.int32), labels.astype(np.int8)), vectors


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=30)
def test_candidates_are_the_lines_of_both_channels_each_once_with_their_features(seed: int, k: int) -> None:
    world = make_world(seed, longest=30, n_items=40)
    lines = lines_of(world, k)
    assert lines.features.shape == (*lines.positions.shape, len(FEATURES)) and np.isfinite(lines.features).all()
    for row, length in enumerate(world.history_lengths):
        similar = world.vectors[world.history(row)] @ world.vectors[world.targets[row]]
        by_relevance = sorted(range(length), key=lambda place: (-similar[place], -place))[: POOL * k]
        by_time = list(range(length))[::-1][: POOL * k]
        known = lines.known[row]
        found = lines.positions[row][known].tolist()
        assert found == by_relevance + [place for place in by_time if place not in by_relevance]
        least = min((similar[place] for place in by_relevance), default=0)
        start = world.sequences.offsets[world.user_codes[row]]
        for place, features, rating in zip(found, lines.features[row][known], lines.ratings[row][known], strict=True):
            relevant = place in by_relevance
            assert features.tolist() == pytest.approx(
                [
                    1 / (by_relevance.index(place) + 1) if relevant else 0,
                    similar[place] if relevant else least,
                    1 / (length - place),
                    -math.log(length - place),
                ]
            )
            assert rating == world.sequences.ratings[start + place]
        assert not lines.features[row][~known].any() and not lines.ratings[row][~known].any()


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=30)
def test_the_best_lines_are_those_of_a_plain_loop_and_never_later_than_the_target(seed: int, k: int) -> None:
    world = make_world(seed, longest=12)
    reranker = LearnedReranker(np.random.default_rng(seed).random(len(FEATURES)), 1)
    lines = lines_of(world, k)
    chosen = reranker.best(lines, k)
    assert chosen.shape == (len(world.targets), k)
    for row, positions in enumerate(chosen):
        scores = {
            int(place): float(features @ reranker.weights)
            for place, features in zip(lines.positions[row], lines.features[row], strict=True)
            if place >= 0
        }
        best = positions[positions >= 0].tolist()
        assert len(best) == len(set(best)) == min(k, world.history_lengths[row])
        assert all(0 <= place < world.history_lengths[row] for place in best)
        assert (positions[len(best) :] == -1).all()
        expected = sorted(scores.values(), reverse=True)[: len(best)]
        assert [scores[place] for place in best] == pytest.approx(expected)


@pytest.mark.parametrize("telling", ["similarity", "recency"])
def test_it_learns_which_feature_tells_and_ranks_unseen_users_by_it(telling: str) -> None:
    sequences, rows, vectors = planted(400, 0, telling)
    learned = learn_reranker(sequences, rows, by_vectors(vectors), 2)
    assert learned is not None and learned.rows == 400 and (learned.weights >= 0).all()
    weights = learned.weights_by_feature()
    timely, similar = weights["recency"] + weights["age"], weights["similarity"] + weights["relevance"]
    assert similar > 3 * timely if telling == "similarity" else timely > 3 * similar
    others, unseen, _ = planted(200, 1, telling)
    chosen = learned.choose(others, unseen, by_vectors(vectors), 2)
    plain = EQUAL.choose(others, unseen, by_vectors(vectors), 2)
    assert neighbour_auc(others, unseen, chosen) > 0.98 >= neighbour_auc(others, unseen, plain) - 0.02


def test_one_input_gives_one_fit_whatever_the_global_random_state() -> None:
    sequences, rows, vectors = planted(100, 3, "recency")
    fits = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        learned = learn_reranker(sequences, rows, by_vectors(vectors), 2)
        assert learned is not None
        fits.append(learned.weights)
    assert (fits[0] == fits[1]).all()


def test_histories_are_chosen_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, rows, vectors = planted(50, 4, "similarity")
    whole = EQUAL.choose(sequences, rows, by_vectors(vectors), 3)
    monkeypatch.setattr("rallrec_pipeline.retrieval.learned.BLOCK_LINES", 7 * 2 * POOL * 3)
    assert (EQUAL.choose(sequences, rows, by_vectors(vectors), 3) == whole).all()
    assert EQUAL.choose(sequences, rows[:0], by_vectors(vectors), 3).shape == (0, 3)


def test_other_rankings_give_candidates_too() -> None:
    world = make_world(5, longest=20, n_items=30)
    for ranking in (by_softmax([(world.vectors, 1.0)]), by_quota(world.vectors, -world.vectors)):
        lines = candidate_lines(world.sequences, world.asked, ranking, 2)
        for row, length in enumerate(world.history_lengths):
            found = lines.positions[row][lines.known[row]].tolist()
            assert len(found) == len(set(found)) and set(found) <= set(range(length))
            assert set(range(max(0, length - 2 * POOL), length)) <= set(found), "all recent lines are there"


def test_where_nothing_can_be_learned_there_is_no_reranker() -> None:
    sequences, rows, vectors = planted(30, 6, "similarity")
    ranking = by_vectors(vectors)
    assert learn_reranker(sequences, rows, ranking, 2) is not None
    assert learn_reranker(sequences, replace(rows, labels=np.ones(30, np.int8)), ranking, 2) is None
    alike = replace(sequences, ratings=np.ones_like(sequences.ratings))
    assert learn_reranker(alike, rows, ranking, 2) is None, "implicit feedback"
    without = replace(rows, history_lengths=np.zeros(30, np.int32))
    assert learn_reranker(sequences, without, ranking, 2) is None
    assert learn_reranker(sequences, rows.thinned(0), ranking, 2) is None
