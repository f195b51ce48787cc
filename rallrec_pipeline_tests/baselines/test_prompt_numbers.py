from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.prompt_numbers import prompt_numbers
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.prompts.facts import make_facts
from rallrec_pipeline_tests.baselines.worlds import histories_of, world


def test_numbers_are_those_that_the_prompt_states() -> None:
    made = world()
    histories = histories_of(made.core, made.samples)
    training = training_interactions(made.core, made.samples)
    found = prompt_numbers(histories, made.core, made.samples, training)
    facts = make_facts(["item_mean"], rating_statistics(made.core, made.samples), histories, training)
    assert found["target_mean"] == pytest.approx(facts.target_mean(histories["sample_id"]).to_numpy())
    for number in (0, 50, histories.height - 1):
        row = histories[[number]]
        lines = row.select("user_id", pl.col("reranked").alias("item_id"), pl.col("reranked_ratings").alias("rating"))
        lines = lines.explode("item_id", "rating")
        ratings, means = lines["rating"].to_numpy(), facts.history_mean(lines).to_numpy()
        weights = 1 / np.arange(1, len(ratings) + 1)
        assert found["shown_mean"][number] == pytest.approx(ratings.mean())
        assert found["shown_weighted"][number] == pytest.approx(np.average(ratings, weights=weights))
        assert found["shown_above"][number] == pytest.approx((ratings - means).mean(), abs=1e-6)
        assert found["shown_weighted_above"][number] == pytest.approx(
            np.average(ratings - means, weights=weights), abs=1e-6
        )


def test_an_empty_history_shows_the_mean_of_all_ratings() -> None:
    made = world()
    histories = histories_of(made.core, made.samples).with_columns(
        pl.col("reranked").list.head(0), pl.col("reranked_ratings").list.head(0)
    )
    training = training_interactions(made.core, made.samples)
    found = prompt_numbers(histories, made.core, made.samples, training)
    assert found["shown_mean"] == pytest.approx(np.full(histories.height, training["rating"].mean()))
    assert not found["shown_weighted_above"].any()
