"""Facts of today are those that the tables state of test rows."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import polars as pl
import pytest

from rallrec_pipeline.baselines.opinions import expected_ratings
from rallrec_pipeline.datasets.histories import make_samples
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.recommendation.asked import expectation_of_today, expected_of_today
from rallrec_pipeline.settings import ExpectedBy
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, world
from rallrec_pipeline_tests.recommendation.worlds import recommender


@pytest.mark.parametrize("by", get_args(ExpectedBy))
def test_a_target_without_training_ratings_is_expected_as_in_the_table(by: ExpectedBy) -> None:
    made = world()
    cold, late = made.core["item_id"][-1], pl.col("timestamp") > 9_500
    core = made.core.filter((pl.col("item_id") != cold) | late)
    label = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=LIKE_ABOVE)
    samples = make_samples(core, ProtocolSpec(min_history=3, split="time"), label, 0)
    one = recommender(replace(made, core=core, samples=samples))
    asked = samples.filter(pl.col("split") == "test")
    rows = asked.select("user_id", "item_id", "history_length")
    found, weights = expected_ratings(core, samples, made.item_ids, rows, LIKE_ABOVE, seed=0, by=by)
    expected = found.select("user_id", "item_id", "expected")
    assert not one.catalogue.has_ratings[made.item_ids.index(cold)] and cold in asked["item_id"]
    now = expected_of_today(one, asked, expected.clear(), expectation_of_today(one, weights))
    assert now.drop("expected").equals(expected.drop("expected"))
    assert now["expected"].to_numpy() == pytest.approx(expected["expected"].to_numpy(), abs=1e-5)
