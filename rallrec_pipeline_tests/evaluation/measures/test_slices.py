"""Slices hold every row once; their figures are those of the rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.evaluation.measures.measured import compare_methods
from rallrec_pipeline.evaluation.measures.metrics import area_under_roc
from rallrec_pipeline.evaluation.measures.slices import SLICINGS, Slicing, cut, sliced
from rallrec_pipeline_tests.evaluation.examples import facts, predictions

BY_NAME = {slicing.name: slicing for slicing in SLICINGS}


def names(values: list[int], slicing: Slicing) -> list[tuple[str, int]]:
    return [(part.name, int(part.chosen.sum())) for part in cut(np.array(values), slicing)]


def test_slices_by_training_ratings_and_by_history_have_fixed_edges() -> None:
    counts = [0, 0, 1, 5, 6, 20, 21, 80, 81, 9000]
    assert names(counts, BY_NAME["item_train_count"]) == [
        ("0", 2),
        ("1-5", 2),
        ("6-20", 2),
        ("21-80", 2),
        ("81 or more", 2),
    ]
    lengths = [0, 10, 11, 30, 31, 100, 101]
    assert names(lengths, BY_NAME["history_length"]) == [("0-10", 2), ("11-30", 2), ("31-100", 2), ("101 or more", 1)]


def test_fifths_of_popularity_are_of_equally_many_rows_but_equal_counts_stay_together() -> None:
    even = [part.chosen.sum() for part in cut(np.arange(100), BY_NAME["popularity"])]
    assert even == [20] * 5
    assert names([3] * 50 + [9] * 50, BY_NAME["popularity"]) == [("3", 50), ("4-9", 50)]
    assert names([7] * 10, BY_NAME["popularity"]) == [("7", 10)]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60), st.sampled_from(SLICINGS))
def test_every_row_is_in_one_slice_between_its_bounds(values: list[int], slicing: Slicing) -> None:
    parts = list(cut(np.array(values), slicing))
    assert (sum(part.chosen.astype(int) for part in parts) == 1).all()
    for part in parts:
        inside = np.array(values)[part.chosen]
        assert (inside >= part.low).all() and (part.high is None or (inside <= part.high).all())
    if not slicing.ends:
        assert all(part.chosen.any() for part in parts)


def test_figures_of_a_slice_are_those_of_its_rows() -> None:
    found = compare_methods(predictions(), facts(), 50, seed=0)
    told = sliced(found, 50, seed=0)["history_length"]
    assert [part["n"] for part in told["slices"]] == [19, 42, 153, 86]
    part = told["slices"][2]
    lengths = facts()["history_length"].to_numpy()
    chosen = (lengths >= 31) & (lengths <= 100)
    labels = found.measured.labels[chosen]
    assert part["users"] == facts().filter(chosen)["user_id"].n_unique() and part["not_defined"] == {}
    assert part["share_liked"] == pytest.approx(labels.mean())
    for method, figures in part["methods"].items():
        scores = found.measured.scores[method]
        assert figures["auc"] == pytest.approx(area_under_roc(labels, scores.given[chosen]))
        assert set(figures) == {f"{m}{end}" for m in ("auc", "uauc", "log_loss") for end in ("", "_se", "_ci")}
        assert figures["auc_se"] > 0


def test_facts_that_are_not_known_cut_nothing_and_say_so() -> None:
    found = compare_methods(predictions(), facts().drop("item_train_count"), 10, seed=0)
    told = sliced(found, 10, seed=0)
    assert told["popularity"]["slices"] == [] and told["history_length"]["slices"] != []
    assert told["popularity"]["not_defined"] == "item_train_count of the rows is not known"
