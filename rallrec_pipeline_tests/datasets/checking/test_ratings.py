"""Ratings that are refused, and why."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import changed, check, good_frames, make


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("stars", "n/a", "have a rating that is no number, as 'n/a': correct interactions.columns.rating"),
        ("stars", "6", "have a rating off the scale, as '6': the file holds 1, 2, 3, 4, 5, 6, label.scale allows 1, 2"),
        ("when", "soon", "have an impossible timestamp, as 'soon'"),
        ("when", "-5", "have an impossible timestamp, as '-5'"),
        ("user", " ", "have an empty user id"),
        ("item", "", "have an empty item id"),
        ("item", "x9", "are of items that items."),
    ],
)
def test_ratings_that_are_refused_are_told_with_their_share(
    tmp_path: Path, ending: str, column: str, value: str, what: str
) -> None:
    found = check(make(tmp_path, ending, **changed("ratings", column, value)))
    place = f"ratings.{ending}, {'row 1' if ending == 'parquet' else 'line 2' if ending == 'csv' else 'line 1'}:"
    assert told(found.problems, f"{place} 150 of 1,500 ratings (10.00%) {what}")
    share = "150 of 1,500 ratings (10.00%) are refused altogether"
    assert told(found.problems, f"{share}, max_rejected (at the top of the TOML file) allows 1.0%")
    assert len(found.problems) == 2
    assert sum(found.figures["refused"].values()) == 150


def test_a_few_refused_ratings_are_warnings(tmp_path: Path) -> None:
    frames = changed("ratings", "stars", "n/a", 200)
    found = check(make(tmp_path, **frames))
    assert not found.problems and told(found.warnings, "8 of 1,500 ratings (0.53%) have a rating that is no number")
    strict = check(make(tmp_path, toml=(('title = "Mine"', 'title = "Mine"\nmax_rejected = 0.001'),), **frames))
    assert len(strict.problems) == 2


def test_unknown_items_that_are_kept_are_a_warning(tmp_path: Path) -> None:
    keep = ('title = "Mine"', 'title = "Mine"\nunknown_items = "keep"')
    found = check(make(tmp_path, toml=(keep,), **changed("ratings", "item", "x9")))
    assert not told(found.problems, "x9") and told(found.warnings, "150 of 1,500", "'x9'", "stay without a title")


def test_ids_that_are_written_differently_are_shown(tmp_path: Path) -> None:
    items = good_frames()["items"].with_columns(pl.col("item") + ".0")
    assert told(check(make(tmp_path, items=items)).problems, "1,500 of 1,500", "(it lists 'i0.0', 'i1.0', 'i2.0')")


def test_repeated_ratings_are_a_warning_with_the_policy(tmp_path: Path) -> None:
    frame = good_frames()["ratings"]
    found = check(make(tmp_path, ratings=pl.concat([frame, frame.tail(5)])))
    assert not found.problems
    assert told(found.warnings, "5 of 1,505 ratings (0.33%) are repeated later by the same user", "the latest")
    many = check(make(tmp_path, ratings=pl.concat([frame, frame])))
    assert told(many.problems, "1,500 of 3,000 ratings (50.00%) are refused altogether")


def test_repetitions_of_implicit_feedback_are_no_fault_and_the_first_may_stay(tmp_path: Path) -> None:
    frame = good_frames()["ratings"]
    toml = (
        ('rating = "stars", ', ""),
        ("scale = [1, 2, 3, 4, 5]\nlike_above = 3", "negatives = 1"),
        ('title = "Mine"', 'title = "Mine"\nrepeats = "first"'),
    )
    found = check(make(tmp_path, toml=toml, ratings=pl.concat([frame, frame])))
    assert not found.problems
    assert told(found.warnings, "1,500 of 3,000 ratings (50.00%) repeat an earlier one of the same user: the first")
