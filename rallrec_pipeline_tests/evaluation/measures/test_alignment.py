"""Measures of alignment: against their definitions, and on projectors that memorise or carry over."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.held_out import fit_held_out
from rallrec_pipeline.evaluation.measures.alignment import (
    BINS,
    alignment_figures,
    are_alike,
    compare,
    held_out_figures,
    too_few,
    uniformity,
)
from rallrec_pipeline.settings import AlignmentSettings

Vectors = NDArray[np.float32]


def drawn(n: int, d: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(row: Vectors) -> NDArray[np.float64]:
    return row.astype(np.float64) / np.linalg.norm(row)


@pytest.mark.parametrize("n", [23, 1_100])  # one chunk of rows, and more than one
def test_measures_are_those_of_their_definitions(n: int) -> None:
    goals = drawn(n, 5)
    own = np.arange(0, n, 3)
    projected = goals[own] + drawn(len(own), 5, seed=1)
    found = alignment_figures(projected, goals, own)
    ours, theirs = (np.array([unit(row) for row in rows]) for rows in (projected, goals))
    distances = np.array([np.square(theirs - row).sum(axis=1) for row in ours])
    mine = distances[np.arange(len(own)), own]
    assert found["alignment"] == pytest.approx(mine.mean(), abs=1e-5)
    assert found["other_pairs"] == pytest.approx((distances.sum() - mine.sum()) / (len(own) * (n - 1)), abs=1e-5)
    ranks = np.array([1 + (distances[row] < mine[row]).sum() for row in range(len(own))])
    assert found["recall_at_1"] == pytest.approx((ranks == 1).mean())
    assert found["recall_at_10"] == pytest.approx((ranks <= 10).mean())
    assert found["own_nearer"] == pytest.approx((1 - (ranks - 1) / (n - 1)).mean())
    assert sum(found["histogram"]) == len(own) and sum(found["histogram_others"]) == len(own) * (n - 1)
    assert len(found["histogram"]) == BINS and found["not_defined"] == {}
    assert found["recall"][0] == [1, found["recall_at_1"]] and found["recall"][3] == [10, found["recall_at_10"]]


@pytest.mark.parametrize("n", [17, 1_100])
def test_uniformity_is_that_of_wang_and_isola(n: int) -> None:
    vectors = drawn(n, 4)
    units = np.array([unit(row) for row in vectors])
    squared = np.maximum(0, 2 - 2 * units @ units.T)
    pairs = np.exp(-2 * squared)[~np.eye(n, dtype=bool)]
    assert uniformity(vectors) == pytest.approx(math.log(pairs.mean()), abs=1e-4)


def test_uniformity_of_like_vectors_is_zero_and_of_opposite_ones_minus_eight() -> None:
    assert uniformity(np.ones((12, 3), np.float32)) == pytest.approx(0, abs=1e-6)
    assert uniformity(np.array([[1, 0], [-2, 0]], np.float32)) == pytest.approx(-8)


def test_ties_count_against_the_own_vector() -> None:
    goals = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    found = compare(goals, goals, np.arange(3))
    assert found.ranks.tolist() == [2, 2, 1] and found.cosines.tolist() == [1, 1, 1]


def test_like_goals_have_no_recall_and_few_goals_no_deep_one() -> None:
    alike = alignment_figures(drawn(12, 3), np.ones((12, 3), np.float32), np.arange(12))
    assert alike["recall_at_10"] is alike["own_nearer"] is alike["recall"] is None
    assert alike["not_defined"] == {"recall": "all collaborative vectors are alike"}
    assert 0 <= alike["alignment"] <= 4
    few = alignment_figures(drawn(10, 3), drawn(10, 3, 1), np.arange(10))
    assert few["recall_at_10"] is few["recall_at_10_se"] is None and few["recall_at_1"] is not None
    assert few["not_defined"] == {"recall_at_10": "of 10 items each is among the 10 nearest"}
    assert are_alike(5 * np.ones((3, 2), np.float32)) and not are_alike(drawn(3, 2))


def test_one_row_has_no_uniformity() -> None:
    found = alignment_figures(drawn(1, 3), drawn(20, 3), np.array([4]))
    assert found["uniformity"] is None and found["not_defined"] == {"uniformity": "one item makes no pair"}


def test_a_projector_that_only_memorises_is_found_out_and_one_that_learned_is_not() -> None:
    text = drawn(150, 24)
    noise, follows = drawn(150, 8, seed=1), (text @ drawn(24, 8, seed=2)).astype(np.float32)
    settings = AlignmentSettings(hidden=64, epochs=150, learning_rate=5e-3)
    figures = {}
    for name, goals in (("noise", noise), ("follows", follows)):
        fit = fit_held_out(text, goals, np.arange(150), settings, seed=0)
        figures[name] = held_out_figures(fit, text, goals, goals)
    for found in figures.values():
        assert found["fitted"]["recall_at_10"] > 0.95 and found["fitted"]["items"] == 120
        assert found["before"]["recall_at_10"] < 0.25 and found["held_out"]["items"] == 30
        assert found["in_use"]["alignment"] == pytest.approx(0, abs=1e-5) and found["in_use"]["recall_at_1"] == 1
    assert figures["noise"]["held_out"]["recall_at_10"] < 0.3
    assert figures["noise"]["held_out"]["alignment"] > 1.4
    assert figures["follows"]["held_out"]["recall_at_10"] > 0.6
    assert figures["follows"]["held_out"]["alignment"] < 1
    assert figures["noise"]["text"]["alignment"] is None and figures["noise"]["text"]["uniformity"] < 0


def test_too_few_items_are_told() -> None:
    assert too_few(10) == "" and too_few(7) == "7 items have both a text and a collaborative vector, and 10 are needed"
