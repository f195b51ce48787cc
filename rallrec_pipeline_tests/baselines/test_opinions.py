from __future__ import annotations

from typing import get_args

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from rallrec_pipeline.baselines.expectation import fit_weights, weigh_by_others
from rallrec_pipeline.baselines.opinions import expected_ratings, rated_rows
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


@pytest.mark.parametrize("by", get_args(ExpectedBy))
def test_an_opinion_does_not_depend_on_what_else_is_asked(by: ExpectedBy) -> None:
    made = world()
    every, few = opinions(made, made.samples, by)[::9], opinions(made, made.samples[::9], by)
    assert few["expected"].to_numpy() == pytest.approx(every["expected"].to_numpy(), abs=1e-5)


def test_rows_are_weighed_by_the_rows_of_other_users() -> None:
    draw = np.random.default_rng(0)
    features = {name: draw.normal(size=60).astype(np.float32) for name in ("one", "other")}
    users, ratings = np.repeat(np.arange(12, dtype=np.int32), 5), draw.integers(1, 6, 60).astype(np.float32)
    before = weigh_by_others(features, ratings, users)
    after = weigh_by_others(features, np.where(users == 3, 6 - ratings, ratings).astype(np.float32), users)
    assert (after[users == 3] == before[users == 3]).all() and (after[users == 4] != before[users == 4]).all()


def test_ratings_that_are_all_alike_leave_the_factorisation() -> None:
    features = {"factorisation": np.arange(4, dtype=np.float32), "item_mean": np.ones(4, np.float32)}
    assert fit_weights(features, np.full(4, 3, np.float32))(features).tolist() == [0, 1, 2, 3]


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
