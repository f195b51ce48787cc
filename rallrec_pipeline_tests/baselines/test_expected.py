"""Expected ratings know nothing of their own answer, nor of anything later."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.expected import FOLDS, expected_ratings
from rallrec_pipeline.datasets.histories import make_samples, training_interactions
from rallrec_pipeline.datasets.spec import LabelSpec, ProtocolSpec

LABEL = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
ITEMS = [f"i{n}" for n in range(15)]
KEYS = ["user_id", "item_id"]


def core(timed: bool, n: int = 12) -> pl.DataFrame:
    """`n` users who rate 10 of 15 items each; those of even users like even items."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(n) for item in rng.permutation(15)[:10]]
    users, items = (np.array(column) for column in zip(*rows, strict=True))
    ratings = np.clip(3 + np.where(users % 2 == items % 2, 1, -1) + rng.integers(-1, 2, len(rows)), 1, 5)
    times = rng.permutation(len(rows))
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "rating": ratings.astype(np.float32),
            "timestamp": pl.Series(times if timed else [None] * len(rows), dtype=pl.Int64),
        }
    )
    return frame.sort("timestamp") if timed else frame


def samples(frame: pl.DataFrame, timed: bool) -> pl.DataFrame:
    return make_samples(frame, ProtocolSpec(min_history=2, split="time" if timed else "user"), LABEL)


def test_nothing_later_enters_where_there_are_times() -> None:
    frame = core(timed=True)
    found = expected_ratings(frame, samples(frame, True), ITEMS, 1)
    for place in (60, 85, 110):
        later = pl.int_range(pl.len()) >= place
        other = frame.with_columns(pl.when(later).then(6 - pl.col("rating")).otherwise("rating").alias("rating"))
        again = expected_ratings(other, samples(frame, True), ITEMS, 1)
        assert again["expected"][: place + 1].equals(found["expected"][: place + 1], null_equal=True)


def test_the_first_part_has_no_expectation_and_all_others_have_one() -> None:
    frame = core(timed=True)
    found = expected_ratings(frame, samples(frame, True), ITEMS, 1)
    training = training_interactions(frame, samples(frame, True)).height
    assert found.select(KEYS).equals(frame.select(KEYS))
    assert found["expected"].is_null().to_list() == [n < -(-training // FOLDS) for n in range(frame.height)]


@pytest.mark.parametrize("row", [3, 9, 57, 119])
def test_no_expectation_knows_its_own_rating_where_there_are_no_times(row: int) -> None:
    frame = core(timed=False)
    rows = samples(frame, False)
    own = pl.int_range(pl.len()) == row
    other = frame.with_columns(pl.when(own).then(6 - pl.col("rating")).otherwise("rating").alias("rating"))
    found, again = (expected_ratings(one, rows, ITEMS, 1)["expected"] for one in (frame, other))
    assert found.null_count() == 0 and found[row] == pytest.approx(again[row])


def test_what_users_like_is_foretold() -> None:
    frame = core(timed=False, n=300)
    found = expected_ratings(frame, samples(frame, False), ITEMS, 1)["expected"].to_numpy()
    assert np.corrcoef(found, frame["rating"].to_numpy())[0, 1] > 0.3
