"""Measures of the first k items, by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.recommendation.measures import Held, coverage, first_items, held_out, measures_by_user, names_of
from rallrec_pipeline.recommendation.today import Ratings, Visits

ITEMS = [f"i{number}" for number in range(30)]


def ratings() -> Ratings:
    rows = [("a", "i0"), ("a", "i1"), ("b", "i2"), ("b", "i25")]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_columns(pl.lit(5.0).alias("rating"))
    return Ratings.of(frame, ITEMS, (), is_sampled=False)


def test_measures_by_hand() -> None:
    held = Held(Visits(np.array([0, 1], np.int32), np.array([2, 1])), np.array([0, 0, 0]), np.array([5, 9, 29]))
    first = np.tile(np.arange(3, 23, dtype=np.int32), (2, 1))  # 5 stands at rank 3, 9 at rank 7
    counts = np.full(30, 3)
    found = measures_by_user(first, held, ratings(), counts, users=7)
    assert set(found) == set(names_of())
    assert found["recall_at_5"][0] == pytest.approx(1 / 3) and found["recall_at_10"][0] == pytest.approx(2 / 3)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg_at_5"][0] == pytest.approx(1 / np.log2(4) / ideal)
    assert found["ndcg_at_10"][0] == pytest.approx((1 / np.log2(4) + 1 / np.log2(8)) / ideal)
    assert np.isnan(found["recall_at_5"][1]) and np.isnan(found["ndcg_at_5"][1])  # b came to like nothing
    assert found["popularity_lift_at_5"] == pytest.approx([0, 0])
    assert found["novelty_at_20"] == pytest.approx([1, 1])  # (3 + 1) of (7 + 1) users
    assert coverage(first, 30) == {f"coverage_at_{k}": pytest.approx(k / 30) for k in (5, 10, 20)}


def test_the_first_items_are_unseen_and_only_the_past_is_seen() -> None:
    made = ratings()
    visits = Visits(np.array([0, 1], np.int32), np.array([2, 1]))  # b has not yet rated i25
    first = first_items(lambda some: np.tile(np.arange(30, dtype=np.float32), (len(some), 1)), made, visits)
    assert first[0, 0] == 29 and 25 in first[1] and 2 not in first[1] and first.shape == (2, 20)


def test_held_out_is_what_was_liked_after_the_history_before_the_first_sample() -> None:
    samples = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b"],
            "item_id": ["i3", "i4", "i5", "i6"],
            "split": ["test", "test", "test", "valid"],
            "label": [0, 1, 0, 1],
            "history_length": [1, 2, 1, 1],
        }
    )
    held = held_out(samples, "test", ratings())
    assert held.visits.users.tolist() == [0] and held.visits.lengths.tolist() == [1]
    assert held.item.tolist() == [4] and held.of_items(np.arange(30) < 4).item.size == 0
    assert len(held_out(samples, "train", ratings()).visits) == 0
