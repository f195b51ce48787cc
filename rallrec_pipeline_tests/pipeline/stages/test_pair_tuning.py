"""Adapters that are tuned on pairs of a user's rows, too, on the tiny world."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.model import tuning_key, tuning_rows
from rallrec_pipeline_tests.pipeline.given import work


def weighted(run: StageRun, weight: float) -> StageRun:
    tuning = run.settings.tuning.model_copy(update={"pair_weight": weight})
    return replace(run, settings=run.settings.model_copy(update={"tuning": tuning}))


def test_pairs_are_learned_from_and_make_another_adapter(finished_run: StageRun) -> None:
    run = finished_run
    rows = tuning_rows(run, "rallrec")
    before = run.given("lora_adapter").metadata["rallrec"]
    assert tuning_key(weighted(run, 0.0), "rallrec", rows) == before["key"] and before["pairs"] == 0
    asked = run.read(tables.prompts_table("tuning")).unique("sample_id")
    labels = asked.group_by("user_id").agg(pl.col("label").n_unique())
    assert labels["label"].max() == 2, "a user has rows of both kinds"
    made, _ = work(weighted(run, 0.5), "lora_adapter")
    assert made.metadata["rallrec"]["pairs"] > 0 and made.metadata["rallrec"]["key"] != before["key"]
    again, _ = work(weighted(run, 0.5), "lora_adapter")
    assert again.metadata["llm"]["rows"] == 0, "it is found again"


def test_whose_rows_they_are_counts_only_where_pairs_do(finished_run: StageRun) -> None:
    rows = tuning_rows(finished_run, "rallrec")
    others = rows.with_columns(user_id=pl.lit("somebody"))
    for weight, same in ((0.0, True), (0.5, False)):
        one, other = (tuning_key(weighted(finished_run, weight), "rallrec", frame) for frame in (rows, others))
        assert (one == other) is same
