"""The checks of the core and of the samples: what they let pass, and what not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.tables import OFF_SCALE, REPEATED
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.items import fitted_on_training_only
from rallrec_pipeline.pipeline.checks.tables import (
    few_rejected_rows,
    k_core_holds,
    labels_balanced,
    splits_follow_time,
)
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.datasets.worlds import frame, in_global_order
from rallrec_pipeline_tests.pipeline.given import give, looking_run
from rallrec_pipeline_tests.pipeline.tiny import DATASET

NAME = "small"
RULES = "user_core = 3\nitem_core = 3\nmin_history = 3"
Make = Callable[[str], StageRun]


@pytest.fixture
def make(tmp_path: Path, built_in_settings_only: None) -> Make:
    """A run of the dataset `small` under other rules; 8 users with 3 to 10 ratings of 10 items, at their own pace."""
    (tmp_path / "catalog").mkdir()
    text = DATASET.format(name=NAME)
    assert RULES in text
    rows = [(f"u{u}", f"i{i}", 1.0 + (u + i) % 5, 100 * u - 7 * i) for u in range(8) for i in range(u + 3)]
    core = in_global_order(frame([row for row in rows if row[1] < "i8"]))

    def run(rules: str) -> StageRun:
        (tmp_path / "catalog" / f"{NAME}.toml").write_text(text.replace(RULES, rules), encoding="utf-8")
        made = looking_run(tmp_path, NAME, load_settings("demo"))
        give(made, tables.CORE_INTERACTIONS, core)
        give(made, tables.INTERACTIONS, core.with_columns(pl.lit(0, pl.Int32).alias("microsecond")))
        return made

    return run


@pytest.mark.parametrize(
    ("rules", "holds"),
    [
        ("user_core = 3\nitem_core = 3", True),
        ("user_core = 3\nitem_core = 3\nuser_cap = 8\nitem_cap = 8", True),
        ("user_core = 3\nitem_core = 3\nuser_cap = 7", False),
        ("user_core = 3\nitem_core = 3\nitem_cap = 7", False),
        ("user_core = 4\nitem_core = 3", False),
        ("user_core = 3\nitem_core = 4", False),
        ("user_core = 4\nitem_core = 3\nitem_limit = 8", True),
        ("user_core = 4\nitem_core = 3\nitem_limit = 8\nuser_cap = 7", False),
        ("user_core = 4\nitem_core = 3\nitem_limit = 8\nitem_limit_first = true", False),
    ],
)
def test_the_core_lies_within_all_its_bounds(make: Make, rules: str, holds: bool) -> None:
    verdict = k_core_holds(make(rules))
    assert verdict.passed is holds and bool(verdict.examples) is not holds
    assert not any(re.search(r"\bu\d", line) for line in verdict.examples), "Dagster's events name no user"
    assert [(verdict.figures[of]["fewest"], verdict.figures[of]["most"]) for of in ("users", "items")] == [(3, 8)] * 2


@pytest.mark.parametrize(
    ("refused", "implicit", "holds"),
    [
        ({"interactions": OFF_SCALE}, False, False),
        ({"items": "repeated id, the first stays", "users": "empty id"}, False, True),
        ({"interactions": REPEATED["last"]}, False, False),
        ({"interactions": REPEATED["last"]}, True, True),
    ],
)
def test_refused_rows_count_where_they_speak_against_the_ratings(
    make: Make, refused: dict[str, str], implicit: bool, holds: bool
) -> None:
    run = make(RULES)
    if implicit:
        path = run.lake / "catalog" / f"{NAME}.toml"
        text = path.read_text(encoding="utf-8").partition("[label]")[0].replace('rating = "rating", ', "")
        path.write_text(f"{text}[label]\nnegatives = 1\n", encoding="utf-8")
    assert run.spec.is_implicit is implicit
    rows = [(table, "ratings.csv", line, reason, "") for table, reason in refused.items() for line in range(9)]
    give(run, tables.REJECTED_ROWS, pl.DataFrame(rows, schema=tables.REJECTED_ROWS.columns, orient="row"))
    assert few_rejected_rows(run).passed is holds


def labelled(counts: dict[str, tuple[int, int]]) -> pl.DataFrame:
    """Samples of splits with so many liked ones, then so many others."""
    rows = [(split, label) for split, (liked, others) in counts.items() for label in [1] * liked + [0] * others]
    made = pl.DataFrame(rows, schema={"split": pl.String, "label": pl.Int8}, orient="row")
    number = pl.int_range(pl.len())
    return made.select(
        number.alias("sample_id"),
        pl.format("u{}", number).alias("user_id"),
        pl.lit("i").alias("item_id"),
        "split",
        pl.lit(3.0, pl.Float32).alias("rating"),
        "label",
        number.alias("timestamp"),
        pl.lit(3, pl.Int32).alias("history_length"),
    )


@pytest.mark.parametrize(
    ("counts", "first", "holds"),
    [
        ({"train": (5, 5), "valid": (5, 5), "test": (5, 5)}, None, True),
        ({"train": (5, 5), "valid": (5, 5), "test": (5, 5)}, 5, False),
        ({"train": (5, 5), "valid": (5, 5), "test": (5, 95)}, None, False),
        ({"train": (5, 5), "valid": (5, 5), "test": (5, 95)}, 40, True),
        ({"train": (5, 95), "valid": (5, 5), "test": (5, 5)}, 10, False),
        ({"train": (5, 5), "test": (5, 5)}, None, False),
    ],
)
def test_the_labels_of_the_samples_that_are_evaluated_count(
    make: Make, counts: dict[str, tuple[int, int]], first: int | None, holds: bool
) -> None:
    run = make(RULES + (f"\nfirst_test_samples = {first}" if first else ""))
    give(run, tables.SAMPLES, labelled(counts))
    assert labels_balanced(run).passed is holds


def test_a_split_by_user_takes_the_last_rating_and_nothing_fitted_knows_a_held_out_one(make: Make) -> None:
    run = make(RULES + '\nsplit = "user"\nfractions = [0.5, 0.25, 0.25]')
    raw, protocol = run.read(tables.INTERACTIONS), run.spec.protocol
    core = in_protocol_order(raw, protocol, 1)
    samples = make_samples(core, protocol, run.spec.label, 1)
    give(run, tables.CORE_INTERACTIONS, core)
    give(run, tables.SAMPLES, samples)
    verdict = splits_follow_time(run)
    assert verdict.passed and verdict.figures["users"] == samples.height == 7

    fitted = training_interactions(core, samples)
    give(run, tables.FITTED_INTERACTIONS, fitted.drop("rating"))
    assert fitted_on_training_only(run).passed and fitted.height == core.height - 4
    give(run, tables.FITTED_INTERACTIONS, core.drop("rating"))
    leaky = fitted_on_training_only(run)
    assert not leaky.passed and leaky.figures["leaked"] == 4
    asked = run.settings.collaborative.model_copy(update={"fit_on": "all_but_last"})
    meant = fitted_on_training_only(replace(run, settings=run.settings.model_copy(update={"collaborative": asked})))
    assert meant.passed and meant.figures["leak_asked_for"] and meant.figures["leaked"] == 4

    first = raw.filter(pl.col("user_id") == "u7").sort("timestamp")["item_id"][0]
    item = pl.when(pl.col("user_id") == "u7").then(pl.lit(first)).otherwise("item_id")
    give(run, tables.SAMPLES, samples.with_columns(item.alias("item_id")))
    shuffled = splits_follow_time(run)
    assert not shuffled.passed and shuffled.figures["targets_before_others"] == 1


LAST = RULES + '\nsplit = "last"'


def left_out(make: Make) -> tuple[StageRun, pl.DataFrame, pl.DataFrame]:
    """A run with the tables of leave-last-out; its core and samples."""
    run = make(LAST)
    core = in_protocol_order(run.read(tables.INTERACTIONS).drop("microsecond"), run.spec.protocol, 1)
    samples = make_samples(core, run.spec.protocol, run.spec.label, 1)
    give(run, tables.CORE_INTERACTIONS, core)
    give(run, tables.SAMPLES, samples)
    return run, core, samples


def test_leave_last_out_holds_for_each_user_and_its_leak_in_time_is_told(make: Make) -> None:
    run, core, samples = left_out(make)
    verdict = splits_follow_time(run)
    assert verdict.passed and verdict.figures["users"] == samples["user_id"].n_unique() == 7
    # Users come one after another: all training targets but those of the first are later than its held-out ones.
    times = run.read(tables.INTERACTIONS).select("user_id", "item_id", pl.col("timestamp").alias("at"))
    timed = samples.join(times, on=["user_id", "item_id"])
    first = timed.filter(pl.col("split") != "train")["at"].min()
    later = timed.filter(pl.col("split") == "train", pl.col("at") > first).height
    assert verdict.figures["training_targets_after_a_held_out_one_of_another_user"] == later > 0

    fitted = training_interactions(core, samples)
    held_out = samples.filter(pl.col("split") != "train").height
    give(run, tables.FITTED_INTERACTIONS, fitted.drop("rating"))
    clean = fitted_on_training_only(run)
    assert clean.passed and fitted.height == core.height - held_out
    assert (clean.figures["leaked"], clean.figures["too_late"]) == (0, 0)
    assert clean.figures["later_than_a_held_out_one_of_another_user"] > 0, "inherent, and told"


def test_a_leak_is_found_in_leave_last_out_too(make: Make) -> None:
    run, core, samples = left_out(make)
    held_out = samples.filter(pl.col("split") != "train").height
    give(run, tables.FITTED_INTERACTIONS, core.drop("rating"))
    leaky = fitted_on_training_only(run)
    assert not leaky.passed and leaky.figures["leaked"] == held_out
    # Without the held-out rows of a user in the samples the later ratings of this user are still too late.
    fewer = samples.filter((pl.col("user_id") != "u7") | (pl.col("split") != "test"))
    last = samples.filter((pl.col("user_id") == "u7") & (pl.col("split") == "test")).select("user_id", "item_id")
    give(run, tables.SAMPLES, fewer)
    with_last = pl.concat([training_interactions(core, samples), core.join(last, on=["user_id", "item_id"])])
    give(run, tables.FITTED_INTERACTIONS, with_last.drop("rating"))
    late = fitted_on_training_only(run)
    assert not late.passed and (late.figures["leaked"], late.figures["too_late"]) == (0, 1)


@pytest.mark.parametrize(
    ("splits", "broken"),
    [
        ({7: "valid", 6: "test"}, {"test_targets_before_others"}),
        ({6: "train"}, {"users_without_one_validation_target"}),
        ({7: "train"}, {"users_without_one_test_target", "users_with_later_training_targets"}),
        ({6: "test"}, {"users_without_one_test_target", "users_without_one_validation_target"}),
        ({6: "train", 5: "valid"}, {"validation_targets_before_others", "users_with_later_training_targets"}),
    ],
)
def test_another_split_is_no_leave_last_out(make: Make, splits: dict[int, str], broken: set[str]) -> None:
    """Of one user whose samples have 3 to 7 earlier ratings, the last two of them held out."""
    run, _, samples = left_out(make)
    changed = pl.col("history_length").replace_strict(splits, default=pl.col("split"), return_dtype=pl.String)
    give(run, tables.SAMPLES, samples.with_columns(split=pl.when(user_id="u7").then(changed).otherwise("split")))
    verdict = splits_follow_time(run)
    assert not verdict.passed
    assert {name: verdict.figures[name] for name in broken} == dict.fromkeys(broken, 1), verdict.figures


def test_samples_of_a_split_by_date_lie_between_the_days_of_the_protocol(make: Make) -> None:
    days = "{ valid = 1970-01-03, test = 1970-01-05 }"
    run = make(f'{RULES}\nsplit = "date"\ndates = {days}')
    core = run.read(tables.CORE_INTERACTIONS)
    later = core.with_columns(timestamp=pl.int_range(pl.len()) * 86_400 // 8)
    samples = make_samples(later, run.spec.protocol, run.spec.label)
    give(run, tables.SAMPLES, samples)
    assert samples["split"].n_unique() == 3 and splits_follow_time(run).passed
    moved = pl.when(pl.col("split") == "valid").then(pl.lit("test")).otherwise("split").alias("split")
    early = samples.filter(pl.col("split") == "valid")["sample_id"][-1]
    give(
        run, tables.SAMPLES, samples.with_columns(pl.when(pl.col("sample_id") == early).then(moved).otherwise("split"))
    )
    assert not splits_follow_time(run).passed
