"""What the protocols make of the ratings."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import check, good_frames, make, nth


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        (("min_history = 5", "user_core = 26"), ("nothing is left after the core", "more than 25", "user_core = 26")),
        (("min_history = 5", "user_cap = 10"), ("nothing is left after the core", "or change user_cap")),
        (("min_history = 5", "min_history = 25"), ("no samples, no user has more than 25 ratings", "now 25")),
        (("min_history = 5", "fractions = [0.999, 0.0005, 0.0005]"), ("the valid split has no samples",)),
        (("min_history = 5", "min_history = 5\ndrop_ratings = [1, 2, 3]"), ("the rule likes every sample", "now 3")),
        (
            ("scale = [1, 2, 3, 4, 5]\nlike_above = 3", "scale = [1, 2, 3, 4, 5, 6]\nlike_above = 5"),
            ("the rule likes no sample", "change like_above, now 5"),
        ),
    ],
)
def test_a_protocol_that_leaves_nothing_to_learn_is_a_problem(
    tmp_path: Path, toml: tuple[str, str], what: tuple[str, ...]
) -> None:
    found = check(make(tmp_path, toml=(toml,)))
    assert told(found.problems, "protocol only: ", *what)


def test_a_split_of_one_class_and_a_share_of_likes_out_of_bounds_are_problems(tmp_path: Path) -> None:
    late = pl.col("when").rank() > 0.85 * pl.len()
    rare = pl.when(late).then(1).when(nth(20)).then(5).otherwise(1)
    found = check(make(tmp_path, ratings=good_frames()["ratings"].with_columns(rare.alias("stars"))))
    assert told(found.problems, "the test split has 120 samples, none of them liked")
    assert told(found.problems, "the train split has", "not between 10% and 90%")


def test_few_test_samples_are_a_warning(tmp_path: Path) -> None:
    found = check(make(tmp_path, raters=20))
    assert not found.problems and told(found.warnings, "the test split has only 40 samples")
    first = check(make(tmp_path, toml=(("min_history = 5", "first_test_samples = 50"),)))
    assert not first.problems and told(first.warnings, "the test split has only 50 samples")


def test_a_required_field_that_is_missing_is_told_once(tmp_path: Path) -> None:
    path = make(
        tmp_path, toml=(("min_history = 5", 'require = ["genre"]'),), items=good_frames()["items"].drop("genre")
    )
    found = check(path)
    assert len(found.problems) == 1 and found.figures["protocols"] == {}
