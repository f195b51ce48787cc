"""The made-up ratings of the benchmarks: their counts, and that the built-in dataset file reads them whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.generate import LEAST, MOVIELENS_1M, MOVIELENS_25M, Shape, activity, along, shape_of, write_dataset
from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.readers import raw_folder, read_raw
from rallrec_pipeline.datasets.tables import RawTables

NAME = "movielens-1m"
SMALL = shape_of("0.02")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawTables:
    lake = tmp_path_factory.mktemp("lake")
    write_dataset(SMALL, raw_folder(lake, NAME))
    return read_raw(get_dataset(NAME, lake), lake)


def test_all_is_read_and_counts_are_those_of_the_shape(raw: RawTables) -> None:
    ratings = raw.interactions
    assert raw.rejected.is_empty()
    assert (ratings.height, raw.users.height, raw.items.height) == (SMALL.ratings, SMALL.users, SMALL.items)
    assert ratings["user_id"].n_unique() == SMALL.users
    assert ratings["item_id"].n_unique() == SMALL.rated_items
    assert not ratings.select("user_id", "item_id").is_duplicated().any()
    assert raw.items.filter(pl.any_horizontal(pl.col("title", "year", "genres") == "")).is_empty()


def test_activity_and_popularity_fall_off(raw: RawTables) -> None:
    users, items = (raw.interactions[name].value_counts()["count"] for name in ("user_id", "item_id"))
    assert users.min() == LEAST
    assert users.max() > 2 * users.median()  # type: ignore[operator]
    assert items.max() > 2 * items.median()  # type: ignore[operator]


def test_times_lie_in_the_span_and_several_ratings_share_one(raw: RawTables) -> None:
    times = raw.interactions["timestamp"]
    assert times.is_between(SMALL.start, SMALL.end).all()
    assert 0.2 < times.n_unique() / len(times) < 0.9


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(shape_of("0.01"), tmp_path / folder, seed)
    first, same, other = ((tmp_path / name / "ratings.dat").read_bytes() for name in "abc")
    assert first == same != other


@pytest.mark.parametrize("shape", [MOVIELENS_1M, MOVIELENS_25M, shape_of("5"), shape_of("0.01")])
def test_activity_has_the_sum_of_the_shape(shape: Shape) -> None:
    counts = activity(shape, np.random.default_rng(1))
    assert counts.sum() == shape.ratings
    assert counts.min() >= LEAST and counts.max() <= shape.rated_items
    assert (np.diff(along(shape.popularity, shape.rated_items)) < 0).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="factor"):
        shape_of("0")
    with pytest.raises(ValueError, match="cannot have"):
        activity(replace(SMALL, rated_items=100), np.random.default_rng(1))
