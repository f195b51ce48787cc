from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from rallrec_pipeline.baselines.opinions import factorisation_opinions, rated_rows
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, World, world


def opinions(made: World, rows: pl.DataFrame) -> pl.DataFrame:
    return factorisation_opinions(made.core, made.samples, made.item_ids, rows, LIKE_ABOVE, seed=0)


def turned(made: World, which: pl.Series) -> World:
    core = made.core.with_columns(
        pl.when(which).then(6 - pl.col("rating")).otherwise(pl.col("rating")).cast(pl.Float32).alias("rating")
    )
    return made.with_core(core)


@pytest.mark.parametrize("split", ["time", "user"])
def test_opinions_rank_the_rows_of_every_split(split: str) -> None:
    made = world(users=120, each=20, split=split)
    found = opinions(made, made.samples)
    assert found.drop("factorisation", "factorisation_p_yes").equals(made.samples)
    assert found["factorisation"].is_between(0, 6).all() and found["factorisation_p_yes"].is_between(0, 1).all()
    for name, rows in found.group_by("split"):
        assert roc_auc_score(rows["label"], rows["factorisation_p_yes"]) > 0.6, name


def test_neither_the_rating_itself_nor_a_later_one_changes_an_opinion() -> None:
    made = world()
    before = opinions(made, made.samples)
    places = made.core.with_row_index("place").select("user_id", "item_id", "place")
    moments = made.samples.join(places, on=["user_id", "item_id"], how="left", maintain_order="left")["place"]
    for sample in range(0, made.samples.height, 23):
        late = pl.int_range(made.core.height, eager=True) >= moments[sample]
        after = opinions(turned(made, late), made.samples[[sample]])
        assert after["factorisation"][0] == pytest.approx(before["factorisation"][sample], abs=1e-4)


def test_where_users_are_split_the_rating_itself_changes_no_opinion() -> None:
    made = world(users=30, split="user")
    rows = made.samples.filter(pl.col("split") == "train")
    before = opinions(made, rows)["factorisation"]
    for number in range(0, rows.height, 6):
        row = rows.row(number, named=True)
        own = (made.core["user_id"] == row["user_id"]) & (made.core["item_id"] == row["item_id"])
        assert opinions(turned(made, own), rows)["factorisation"][number] == pytest.approx(before[number], abs=1e-4)


def test_an_opinion_does_not_depend_on_what_else_is_asked() -> None:
    made = world()
    every, few = opinions(made, made.samples)[::9], opinions(made, made.samples[::9])
    for name in ("factorisation", "factorisation_p_yes"):
        assert few[name].to_numpy() == pytest.approx(every[name].to_numpy(), abs=1e-5)


def test_ratings_of_a_history_get_the_length_of_what_came_before() -> None:
    made = world()
    pairs = made.core.sample(20, seed=0).select("item_id", "user_id")
    found = rated_rows(made.core, pairs)
    for row in found.iter_rows(named=True):
        own = made.core.filter(pl.col("user_id") == row["user_id"])["item_id"].to_list()
        assert own[row["history_length"]] == row["item_id"]
    assert rated_rows(made.core, pairs.with_columns(user_id=pl.lit("nobody")))["history_length"].null_count() == 20
    assert np.isfinite(opinions(made, found)["factorisation"].to_numpy()).all()


def test_no_rows_are_no_opinions() -> None:
    made = world()
    assert opinions(made, made.samples.clear()).height == 0
