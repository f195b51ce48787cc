from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from rallrec_pipeline.baselines.expectation import FACTORISATION, FEWEST, WEIGHED, Expectation, fit_weights
from rallrec_pipeline.baselines.opinions import expected_ratings, rated_rows
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.settings import ExpectedBy
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, World, world


def opinions(made: World, rows: pl.DataFrame, by: ExpectedBy = "factorisation") -> pl.DataFrame:
    return expected_ratings(made.core, made.samples, made.item_ids, rows, LIKE_ABOVE, seed=0, by=by)[0]


def turned(made: World, which: pl.Series) -> World:
    core = made.core.with_columns(
        pl.when(which).then(6 - pl.col("rating")).otherwise(pl.col("rating")).cast(pl.Float32).alias("rating")
    )
    return made.with_core(core)


@pytest.mark.parametrize("by", get_args(ExpectedBy))
@pytest.mark.parametrize("split", ["time", "user"])
def test_opinions_rank_the_rows_of_every_split(split: str, by: ExpectedBy) -> None:
    made = world(users=120, each=20, split=split)
    found = opinions(made, made.samples, by)
    assert found.drop("expected").equals(made.samples) and found["expected"].is_between(0, 6).all()
    for name, rows in found.group_by("split"):
        assert roc_auc_score(rows["label"], rows["expected"]) > 0.6, name


def test_neither_the_rating_itself_nor_a_later_one_changes_an_opinion() -> None:
    made = world()
    before = opinions(made, made.samples)
    places = made.core.with_row_index("place").select("user_id", "item_id", "place")
    moments = made.samples.join(places, on=["user_id", "item_id"], how="left", maintain_order="left")["place"]
    for sample in range(0, made.samples.height, 23):
        late = pl.int_range(made.core.height, eager=True) >= moments[sample]
        after = opinions(turned(made, late), made.samples[[sample]])
        assert after["expected"][0] == pytest.approx(before["expected"][sample], abs=1e-4)


@pytest.mark.parametrize("by", get_args(ExpectedBy))
def test_no_rating_of_validation_and_test_rows_changes_any_opinion_of_an_earlier_moment(by: ExpectedBy) -> None:
    """Weights of experts are fitted on training rows alone."""
    made = world()
    training = made.samples.filter(pl.col("split") == "train")
    others = made.samples.filter(pl.col("split") != "train").select("user_id", "item_id", hidden=True)
    marks = made.core.join(others, on=["user_id", "item_id"], how="left", maintain_order="left")["hidden"]
    before, after = (opinions(one, training, by)["expected"] for one in (made, turned(made, marks.fill_null(False))))
    assert after.to_numpy() == pytest.approx(before.to_numpy(), abs=1e-5)


def test_where_users_are_split_the_rating_itself_changes_no_opinion() -> None:
    made = world(users=30, split="user")
    rows = made.samples.filter(pl.col("split") == "train")
    before = opinions(made, rows)["expected"]
    for number in range(0, rows.height, 6):
        row = rows.row(number, named=True)
        own = (made.core["user_id"] == row["user_id"]) & (made.core["item_id"] == row["item_id"])
        assert opinions(turned(made, own), rows)["expected"][number] == pytest.approx(before[number], abs=1e-4)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("by", get_args(ExpectedBy))
def test_an_opinion_does_not_depend_on_what_else_is_asked(by: ExpectedBy, implicit: bool) -> None:
    """Sampled negatives of one user may be the same item at several moments."""
    made = world(implicit=implicit)
    every, few = opinions(made, made.samples, by)[::9], opinions(made, made.samples[::9], by)
    assert few["expected"].to_numpy() == pytest.approx(every["expected"].to_numpy(), abs=1e-5)


@pytest.mark.parametrize("split", ["time", "user"])
def test_no_row_of_a_user_is_weighed_by_an_answer_of_theirs(split: str) -> None:
    """Neither a training row nor a line of its prompt; the answer is changed where weights look for it alone."""
    made = world(users=240, each=8, split=split)
    late = made.samples.filter(pl.col("split") == "train")[-1]
    answer = (pl.col("user_id") == late["user_id"][0]) & (pl.col("item_id") == late["item_id"][0])
    turned = made.samples.with_columns(pl.when(answer).then(6 - pl.col("rating")).otherwise("rating").alias("rating"))
    asked = rated_rows(made.core, made.core.select("user_id", "item_id"))
    before, after = (opinions(replace(made, samples=one), asked, "experts") for one in (made.samples, turned))
    changed = (before["expected"] - after["expected"]).abs() > 1e-5
    training = training_interactions(made.core, made.samples).select("user_id", "item_id", seen=True)
    rows = asked.with_columns(changed=changed).join(training, on=["user_id", "item_id"], how="left")
    assert not rows.filter(pl.col("seen") & (pl.col("user_id") == late["user_id"][0]))["changed"].any()
    assert rows.filter(pl.col("user_id") != late["user_id"][0])["changed"].any()


@pytest.mark.parametrize("by", get_args(ExpectedBy))
@pytest.mark.parametrize(("split", "implicit"), [("time", False), ("user", False), ("time", True)])
def test_what_is_expected_of_a_question_is_what_the_table_has(split: str, implicit: bool, by: ExpectedBy) -> None:
    made = world(users=240, each=8, split=split, implicit=implicit)
    rows = made.samples.filter(pl.col("split") == "test")
    found, weights = expected_ratings(made.core, made.samples, made.item_ids, rows, LIKE_ABOVE, 0, by)
    assert weights.groups == (("factorisation",) if by == "factorisation" else WEIGHED)
    fit = Expectation.of(RatingLog.of(made.core, made.samples, made.item_ids), LIKE_ABOVE, 0, weights)
    for row in found[::17].iter_rows(named=True):
        lines = made.core.filter(pl.col("user_id") == row["user_id"]).head(row["history_length"])
        codes = np.array([made.item_ids.index(item) for item in (*lines["item_id"], row["item_id"])] + [-1], np.int32)
        history, lengths = np.arange(lines.height, dtype=np.int32), np.full(2, lines.height, np.int32)
        targets = np.array([lines.height, lines.height + 1], np.int32)
        asked = fit.of_one_user(codes, history, lines["rating"].to_numpy(), targets, lengths)
        assert asked[0] == pytest.approx(row["expected"], abs=1e-5)
        assert by == "factorisation" or (0 if implicit else 1) <= asked[1] <= (1 if implicit else 5)  # an unknown item


def test_ratings_that_are_all_alike_and_few_rows_leave_the_factorisation() -> None:
    features = {name: np.arange(FEWEST, dtype=np.float32) for name in ("factorisation", "item_mean")}
    some = np.resize(np.array([1, 3, 5], np.float32), FEWEST)
    assert fit_weights(features, some).groups == WEIGHED
    assert fit_weights(features, np.full(FEWEST, 3, np.float32)) is FACTORISATION
    assert fit_weights({name: values[1:] for name, values in features.items()}, some[1:]) is FACTORISATION


@pytest.mark.parametrize("users", [1, 2])
def test_next_to_no_data_have_an_opinion(users: int) -> None:
    made = world(users=users)
    for samples in (made.samples, made.samples.clear()):
        asked = rated_rows(made.core, made.core.select("user_id", "item_id"))
        found = opinions(replace(made, samples=samples), asked, "experts")["expected"]
        assert len(found) == made.core.height and found.is_finite().all()


def test_ratings_of_a_history_get_the_length_of_what_came_before() -> None:
    made = world()
    pairs = made.core.sample(20, seed=0).select("item_id", "user_id")
    found = rated_rows(made.core, pairs)
    for row in found.iter_rows(named=True):
        own = made.core.filter(pl.col("user_id") == row["user_id"])["item_id"].to_list()
        assert own[row["history_length"]] == row["item_id"]
    assert rated_rows(made.core, pairs.with_columns(user_id=pl.lit("nobody")))["history_length"].null_count() == 20
    assert np.isfinite(opinions(made, found)["expected"].to_numpy()).all()


def test_no_rows_are_no_opinions() -> None:
    made = world()
    assert opinions(made, made.samples.clear()).height == 0
