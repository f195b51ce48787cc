"""`rallrec check`: a good dataset is ready, and many faults are all told at once, each in one line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.catalog import BUILT_IN
from rallrec_pipeline.datasets.checking.report import check_dataset
from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import check, good_frames, make, nth, some


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_good_dataset_has_no_problem_and_its_figures_are_those_of_the_stages(tmp_path: Path, ending: str) -> None:
    found = check(make(tmp_path, ending))
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["rows"] == {"interactions": 1500, "items": 30, "users": 60}
    assert (found.figures["users"], found.figures["items"], found.figures["refused"]) == (60, 30, {})
    made = found.figures["protocols"]["only"]
    assert (made["interactions"], made["samples"], made["train"], made["valid"], made["test"]) == (
        1500, 1200, 960, 120, 120,
    )  # fmt: skip
    assert 0.3 < made["liked"] < 0.5


def test_implicit_feedback_and_dates_are_good_too(tmp_path: Path) -> None:
    when = pl.from_epoch("when").dt.strftime("%Y-%m-%d %H:%M:%S")
    toml = (
        ('rating = "stars", timestamp = "when"', 'timestamp = { column = "when", time_format = "%Y-%m-%d %H:%M:%S" }'),
        ("scale = [1, 2, 3, 4, 5]\nlike_above = 3", "negatives = 1"),
    )
    found = check(make(tmp_path, toml=toml, ratings=good_frames()["ratings"].with_columns(when)))
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["protocols"]["only"]["liked"] == pytest.approx(0.5, abs=0.01)


def test_a_dataset_without_users_needs_no_users(tmp_path: Path) -> None:
    path = make(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[users]")] + text[text.index("[protocol]") :], encoding="utf-8")
    found = check(path)
    assert (found.problems, found.warnings) == ([], []) and "users" not in found.figures["rows"]


def test_every_protocol_is_checked(tmp_path: Path) -> None:
    protocols = "[protocols.easy]\nuser_core = 1\n[protocols.hard]\nuser_core = 26\n"
    found = check(make(tmp_path, toml=(("[protocol]\nmin_history = 5\n", protocols),)))
    assert len(found.problems) == 1 and told(found.problems, "protocol hard: nothing is left after the core")
    assert found.figures["protocols"]["easy"]["samples"] == 1200
    assert found.figures["protocols"]["hard"]["interactions"] == 0


def test_real_movielens_has_no_problem(movielens: Path) -> None:
    found = check_dataset(BUILT_IN / "movielens-100k.toml", movielens.parents[1])
    assert found.problems == []
    assert found.figures["protocols"]["published"]["equal_times"] == 0.5104
    same = "of the neighbouring ratings of a user have the same time"
    assert told(found.warnings, f"protocol five_core: 50.9% {same}")
    assert told(found.warnings, f"protocol published: 51.0% {same}")
    assert told(found.warnings, "protocol published: the border between train and valid", "1998-03-07 02:17:06")
    assert found.figures["protocols"]["five_core"]["samples"] == 94_572


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_where_no_rating_can_be_taken_it_is_said_that_none_is_left(tmp_path: Path, ending: str) -> None:
    found = check(make(tmp_path, ending, ratings=good_frames()["ratings"].with_columns(pl.lit(9).alias("stars"))))
    assert told(found.problems, "refused altogether") and told(found.problems, "no rating is left")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_many_faults_are_all_told(tmp_path: Path, ending: str) -> None:
    frames = good_frames()
    ratings = frames["ratings"].with_columns(
        some("stars", "9", 7)(pl.col("stars")),
        pl.when(nth(5)).then(pl.lit("")).otherwise("user").alias("user"),
        (pl.col("when") * 1000).alias("when"),
    )
    items = pl.concat([frames["items"], frames["items"].head(1).with_columns(pl.lit("Other").alias("name"))])
    users = frames["users"].drop("age")
    found = check(
        make(tmp_path, ending, ratings=ratings, items=items.with_columns(pl.lit("").alias("genre")), users=users)
    )
    for words in (
        ("off the scale", "'9'"),
        ("empty user id",),
        ("impossible timestamp", 'unit = "ms"'),
        ("come more than once",),
        ("genre is empty in all rows",),
        ("'age' (for age)",),
    ):
        assert told(found.problems, *words), words
