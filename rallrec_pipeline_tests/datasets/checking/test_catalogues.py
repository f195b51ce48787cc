"""Rows of items and users."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import changed, check, good_frames, make, some


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_ids_that_come_twice_and_differ_are_a_problem(tmp_path: Path, ending: str) -> None:
    items, users = good_frames()["items"], good_frames()["users"]
    again = items.head(2).with_columns(pl.lit("Other").alias("name"))
    found = check(make(tmp_path, ending, items=pl.concat([items, again]), users=pl.concat([users, users.head(1)])))
    assert len(found.problems) == 1 and len(found.warnings) == 1
    assert told(found.problems, f"items.{ending}", "2 of 30 ids come more than once", "as 'i0', 'i1'", "the first row")
    assert told(found.warnings, f"users.{ending}", "1 of 61 rows (1.64%) say an earlier row's user_id again")


def test_empty_ids_of_items_are_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, users=good_frames()["users"].with_columns(some("user", "", 20)(pl.col("user")))))
    assert told(found.problems, "users.csv, line 2: 3 of 60 rows (5.00%) have an empty user_id")


def test_empty_titles_are_a_warning_and_no_titles_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, **changed("items", "name", "")))
    assert not found.problems and told(found.warnings, "items.csv, line 2: 3 of 30 items (10.00%) have an empty title")
    assert told(
        check(make(tmp_path, **changed("items", "name", "", 1))).problems, "items.csv: title is empty in all rows"
    )


@pytest.mark.parametrize(
    "rule", ["pick = 2", "split = ',', pick = 4", "pattern = '(\\d+)'", "numeric = true", "length = 3"]
)
def test_a_rule_that_makes_a_field_empty_everywhere_is_a_problem(tmp_path: Path, rule: str) -> None:
    found = check(make(tmp_path, toml=(('genre = "genre"', f'genre = {{ column = "genre", {rule} }}'),)))
    names = ", ".join(sorted(part.split(" = ")[0] for part in rule.split(", ") if " = " in part))
    assert len(found.problems) == 1
    assert told(found.problems, "items.columns.genre makes nothing of 30 of 30", "as 'Drama'", f"correct {names}")


def test_a_rule_that_loses_most_of_a_field_is_a_warning(tmp_path: Path) -> None:
    users = good_frames()["users"].with_columns(some("age", "old", 1)(pl.col("age")))[:50]
    users = pl.concat([users, good_frames()["users"][50:].cast(pl.String)])
    found = check(make(tmp_path, toml=(('age = "age"', 'age = { column = "age", numeric = true }'),), users=users))
    assert not found.problems and told(found.warnings, "users.columns.age makes nothing of 50 of 60", "as 'old'")


def test_raters_without_a_profile_are_a_warning(tmp_path: Path) -> None:
    found = check(make(tmp_path, users=good_frames()["users"].head(45)))
    assert not found.problems and told(found.warnings, "users.csv: 15 of 60 users (25.00%) with ratings have no row")


def test_text_of_the_files_is_cleaned(tmp_path: Path) -> None:
    found = check(make(tmp_path, **changed("ratings", "stars", "\x1b[31mred\x07 <|im_start|>")))
    assert told(found.problems, "as '[31mred (|im_start|>'")
    assert "\x1b" not in "".join(found.problems)
