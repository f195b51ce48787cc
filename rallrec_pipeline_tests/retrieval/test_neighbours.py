from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.retrieval.neighbours import (
    ALPHAS,
    Rows,
    neighbour_auc,
    neighbour_score,
    search_alpha,
    search_mixture,
)
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.retrieval.relevance import most_relevant
from rallrec_pipeline_tests.retrieval.worlds import make_world

SEQUENCES = UserSequences(
    ["a", "b"],
    ["x", "y", "z"],
    np.array([0, 3, 5]),
    np.array([0, 1, 2, 0, 1], np.int32),
    np.array([5, 3, 1, 4, 2], "f4"),
)
USERS = np.array([0, 1, 0], np.int32)
POSITIONS = np.array([[2, 0], [1, -1], [-1, -1]], np.int32)


def planted(n_users: int = 60, n_items: int = 40, length: int = 20) -> tuple[UserSequences, Rows, np.ndarray]:
    """A user likes the items of one of two groups; the last of each sequence is the target."""
    rng = np.random.default_rng(0)
    groups = np.arange(n_items) % 2
    items = np.stack([rng.permutation(n_items)[: length + 1] for _ in range(n_users)]).astype(np.int32)
    liked = groups[items] == (np.arange(n_users) % 2)[:, None]
    ratings = np.where(liked, 5, 2).astype(np.float32)
    offsets = np.arange(n_users + 1, dtype=np.int64) * (length + 1)
    names = [str(u) for u in range(n_users)], [str(i) for i in range(n_items)]
    users, lengths = np.arange(n_users, dtype=np.int32), np.full(n_users, length, np.int32)
    rows = Rows(users, lengths, items[:, -1].copy(), liked[:, -1].astype(np.int8))
    vectors = np.stack([groups, 1 - groups], axis=1).astype(np.float32)
    return UserSequences(*names, offsets, items.ravel(), ratings.ravel()), rows, vectors


def test_without_ratings_the_mixture_is_judged_by_relevance() -> None:
    """Users touch the items of one group only; the targets of the other group are sampled negatives."""
    rng = np.random.default_rng(0)
    groups = np.arange(40) % 2
    own = np.arange(60) % 2
    items = np.stack([rng.permutation(np.flatnonzero(groups == group))[:10] for group in own]).astype(np.int32)
    names = [str(u) for u in range(60)], [str(i) for i in range(40)]
    sequences = UserSequences(*names, np.arange(61) * 10, items.ravel(), np.ones(600, "f4"))
    targets = rng.integers(0, 40, 60).astype(np.int32)
    labels = (groups[targets] == own).astype(np.int8)
    rows = Rows(np.arange(60, dtype=np.int32), np.full(60, 10, np.int32), targets, labels)
    telling = np.stack([groups, 1 - groups], axis=1).astype(np.float32)
    noise = rng.normal(size=(40, 8)).astype(np.float32)
    choice = search_mixture(sequences, rows, {"text": noise, "collaborative": telling}, 5)
    assert choice.weights == {"text": 0.0, "collaborative": 1.0} and choice.auc == 1.0
    only_noise = next(tried["auc"] for tried in choice.tried if tried["collaborative"] == 0)
    assert only_noise < 0.8


def test_score_by_hand() -> None:
    by_rank = neighbour_score(SEQUENCES, USERS, POSITIONS)
    assert by_rank.tolist() == pytest.approx([(1 * 1 + 5 / 2) / 1.5, 2, 0])


@given(st.integers(0, 10_000), st.integers(1, 10))
@settings(max_examples=40)
def test_score_stays_within_the_chosen_ratings(seed: int, k: int) -> None:
    world = make_world(seed)
    found = most_relevant(world.sequences, world.asked, world.vectors, k)
    result = neighbour_score(world.sequences, world.user_codes, found.positions)
    for user, positions, value in zip(world.user_codes, found.positions, result, strict=True):
        ratings = world.sequences.ratings[world.sequences.offsets[user] + positions[positions >= 0]]
        assert value == 0 if not len(ratings) else ratings.min() - 1e-6 <= value <= ratings.max() + 1e-6


def test_auc_is_one_where_neighbours_decide_and_half_without_two_labels() -> None:
    sequences, rows, vectors = planted()
    found = most_relevant(sequences, rows, vectors, 5)
    assert neighbour_auc(sequences, rows, found.positions) == 1
    ones = Rows(rows.user_codes, rows.history_lengths, rows.targets, np.ones_like(rows.labels))
    assert neighbour_auc(sequences, ones, found.positions) == 0.5


def test_mixture_search_drops_the_part_that_says_nothing() -> None:
    sequences, rows, vectors = planted()
    noise = np.random.default_rng(1).normal(size=(len(vectors), 4)).astype(np.float32)
    choice = search_mixture(sequences, rows, {"text": noise, "collaborative": vectors, "aligned": noise}, 5)
    assert choice.weights == {"text": 0.0, "collaborative": 1.0, "aligned": 0.0}
    assert choice.auc == 1
    assert len(choice.tried) == 19
    assert all(0 <= result["auc"] <= 1 for result in choice.tried)


def test_alpha_search_takes_the_best_of_the_papers_values() -> None:
    sequences, rows, vectors = planted()
    alpha, tried = search_alpha(sequences, rows, by_vectors(vectors), 5, beta=1.0)
    assert tuple(result["alpha"] for result in tried) == ALPHAS
    assert max(tried, key=lambda result: result["auc"])["alpha"] == alpha


@pytest.mark.parametrize(("telling", "expected"), [("relevance", 4 / 5), ("recency", 1 / 2)])
def test_alpha_search_follows_the_channel_that_tells(telling: str, expected: float) -> None:
    """Either the ratings of similar items tell the target's and the last ones mislead, or the other way round."""
    rng = np.random.default_rng(0)
    sequences, rows, similar = planted(n_users=200)
    ratings = sequences.ratings.reshape(200, -1).copy()
    liked = rows.labels.astype(bool)
    if telling == "relevance":
        vectors, last = similar, np.where(liked, 2, 5)
    else:
        vectors, last = rng.normal(size=similar.shape).astype(np.float32), np.where(liked, 5, 2)
        ratings[:, :-1] = rng.permuted(ratings[:, :-1], axis=1)
    ratings[:, -3:-1] = last[:, None]
    changed = replace(sequences, ratings=ratings.ravel().astype(np.float32))
    alpha, tried = search_alpha(changed, rows, by_vectors(vectors), 5, beta=1.0)
    assert alpha == expected
    aucs = [result["auc"] for result in tried]
    assert max(aucs) > min(aucs) + 0.02, aucs


def test_thinned_rows_are_evenly_spaced() -> None:
    _, rows, _ = planted()
    assert rows.thinned(4).user_codes.tolist() == [0, 19, 39, 59]
    assert (rows.thinned(1000).user_codes == rows.user_codes).all()
