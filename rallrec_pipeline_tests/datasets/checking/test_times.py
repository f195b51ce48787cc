"""Times in another unit or format, and times that are too coarse."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import START, check, good_frames, make


@pytest.mark.parametrize(
    ("form", "kind", "option"),
    [
        ("ms", "milliseconds", 'unit = "ms"'),
        ("us", "microseconds", 'unit = "us"'),
        ("ns", "nanoseconds", 'unit = "ns"'),
        ("%Y-%m-%d", "dates", 'time_format = "%Y-%m-%d"'),
        ("%Y-%m-%d %H:%M:%S", "dates", 'time_format = "%Y-%m-%d %H:%M:%S"'),
        ("%Y-%m-%dT%H:%M:%SZ", "dates", 'time_format = "%Y-%m-%dT%H:%M:%SZ"'),
        ("%m/%d/%Y", "dates", 'time_format = "%m/%d/%Y"'),
        ("%d/%m/%Y", "dates", 'time_format = "%d/%m/%Y"'),
        ("%m %d, %Y", "dates", 'time_format = "%m %d, %Y"'),
    ],
)
def test_times_in_another_form_are_recognised(tmp_path: Path, form: str, kind: str, option: str) -> None:
    times = START + 86_400 * 3 * pl.int_range(pl.len())  # ten years, so that days of all months come
    scale = {"ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}.get(form)
    when = times * scale if scale else pl.from_epoch(times).dt.strftime(form)
    ratings = good_frames()["ratings"].with_columns(when.alias("when")).sample(fraction=1, shuffle=True, seed=0)
    found = check(make(tmp_path, ratings=ratings))
    line = f'timestamp = {{ column = "when", {option} }}'
    (problem,) = found.problems  # neither max_rejected nor what is left is to blame
    assert problem.startswith("ratings.csv, line 2: 1,500 of 1,500 ratings (100.00%) have an impossible timestamp")
    assert f": these look like {kind}, set {line} in the columns of [interactions]" in problem
    mended = ('timestamp = "when"', line)
    assert check(make(tmp_path, toml=(mended,), ratings=ratings)).problems == []


def test_seconds_read_as_dates_are_recognised(tmp_path: Path) -> None:
    wrong = ('timestamp = "when"', 'timestamp = { column = "when", time_format = "%Y-%m-%d" }')
    found = check(make(tmp_path, toml=(wrong,)))
    assert told(found.problems, "impossible timestamp", 'set timestamp = { column = "when", unit = "s" } in the')


@pytest.mark.parametrize(
    ("toml", "when", "what"),
    [
        ('"when"', pl.from_epoch("when").dt.strftime("%Y%m%d"), '{ column = "when", time_format = "%Y%m%d" }'),
        ('{ column = "when", unit = "ms" }', pl.col("when"), '{ column = "when", unit = "s" }'),
    ],
)
def test_possible_times_in_another_unit_are_warnings(tmp_path: Path, toml: str, when: pl.Expr, what: str) -> None:
    ratings = good_frames()["ratings"].with_columns(when.alias("when"))
    found = check(make(tmp_path, toml=(('timestamp = "when"', f"timestamp = {toml}"),), ratings=ratings))
    assert told(found.warnings, "all times lie before 1980", what)


def test_small_numbers_may_be_times_of_their_own_kind(tmp_path: Path) -> None:
    ratings = good_frames()["ratings"].with_columns(pl.col("when") - START)
    found = check(make(tmp_path, ratings=ratings))
    assert (found.problems, found.warnings) == ([], [])


def test_coarse_times_are_a_warning_with_the_share_of_equal_neighbours(tmp_path: Path) -> None:
    ratings = good_frames()["ratings"].with_columns(pl.col("when") // 10_000 * 10_000)
    found = check(make(tmp_path, ratings=ratings))
    times = {user: sorted(frame["when"]) for (user,), frame in ratings.group_by("user")}
    equal = sum(one == other for moments in times.values() for one, other in pairwise(moments))
    share = equal / sum(len(moments) - 1 for moments in times.values())
    assert found.figures["protocols"]["only"]["equal_times"] == round(share, 4) > 0.2
    assert not found.problems
    assert told(found.warnings, f"protocol only: {share:.1%} of the neighbouring ratings", "that of the item ids")
    assert told(found.warnings, "the border between train and valid falls among ratings of one time (2020-09-1")
    assert told(found.warnings, "the border between valid and test falls among ratings of one time")


def test_a_border_among_equal_times_is_a_warning_though_few_are_equal(tmp_path: Path) -> None:
    found = check(make(tmp_path, ratings=good_frames()["ratings"].with_columns(pl.col("when") // 700 * 700)))
    assert 0 < found.figures["protocols"]["only"]["equal_times"] < 0.2
    assert len(found.warnings) == 2 and all("falls among ratings of one time" in line for line in found.warnings)


def test_where_users_are_split_equal_times_are_in_a_drawn_order_and_there_is_no_border(tmp_path: Path) -> None:
    ratings = good_frames(600)["ratings"].with_columns(pl.col("when") // 100_000 * 100_000)
    split = ("min_history = 5", 'min_history = 5\nsplit = "user"')
    found = check(make(tmp_path, toml=(split,), raters=600, ratings=ratings))
    assert not found.problems and not told(found.warnings, "the border")
    assert told(found.warnings, "have the same time, their order is drawn from the seed")


def test_parts_of_seconds_tell_an_order_too(tmp_path: Path) -> None:
    ratings = good_frames()["ratings"].with_columns((pl.col("when") - START) // 10 + START * 1000)
    milliseconds = ('timestamp = "when"', 'timestamp = { column = "when", unit = "ms" }')
    found = check(make(tmp_path, toml=(milliseconds,), ratings=ratings))
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["protocols"]["only"]["equal_times"] == 0
