"""Predictions and records as a report takes them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.reporting.scored import scored_by_llm, scored_without_llm
from rallrec_pipeline.settings import PromptSettings, Settings
from rallrec_pipeline_tests.pipeline.given import give, looking_run

DATASET = "movielens-100k"
RATED = [[0.1, 0.2, 0.3, 0.15, 0.25], [0.0, 0.0, 0.0, 0.3, 0.7], [1.0, 0.0, 0.0, 0.0, 0.0]]
COUNTED = {"prompts": 3, "scored": 2, "reused": 1, "tokens_per_second": 50.0}


def predicted(p_yes: list[float], probabilities: list[list[float]] | None = None) -> pl.DataFrame:
    columns = tables.predictions_table("any").columns
    rows = {"sample_id": [1, 2, 3], "split": ["valid", "test", "test"], "label": [0, 1, 0], "p_yes": p_yes}
    return pl.DataFrame(rows | {"probabilities": probabilities or [None] * 3}, schema=dict(columns))


@pytest.mark.parametrize(
    ("counted", "tokens", "rows"),
    [({"prompt_tokens": 600}, 600, 2), ({"prompt_tokens": 0, "scored": 0}, None, 0), ({}, None, 2)],
)
def test_what_the_llm_said_is_read_off_its_answers_and_its_cost_off_the_record(
    tmp_path: Path, counted: dict[str, int], tokens: int | None, rows: int
) -> None:
    settings = Settings(profile="small", prompts=PromptSettings(answer_form="rating"))
    run = looking_run(tmp_path, DATASET, settings)
    (method,) = (method for method in methods(settings) if method.name == "rallrec")
    metadata = {"seconds": {"rallrec": 12.0}, "prompts": {"rallrec": COUNTED | counted}}
    record = give(run, tables.predictions_table("rallrec"), predicted([0.5, 0.6, 0.2], RATED), metadata=metadata)
    found = scored_by_llm(method, record, run.lake, run.spec)
    assert found.predictions["p_raw"].to_list() == pytest.approx([0.4, 1.0, 0.0], abs=1e-6)
    assert found.predictions["p_raw"].max() <= 1  # type: ignore[operator]
    assert found.predictions["p_yes"].to_list() == [0.5, 0.6, 0.2]
    assert (found.title, found.kind) == (method.title, "llm")
    assert (found.cost.seconds, found.cost.predictions) == (12.0, 3)
    assert (found.cost.prompt_tokens, found.cost.token_rows) == (tokens, rows)


def test_methods_without_an_llm_are_told_by_their_record(tmp_path: Path) -> None:
    run = looking_run(tmp_path, DATASET, Settings(profile="small"))
    metadata = {"seconds": {"item_mean": 2.5}, "predicted": 100_000}
    table = tables.predictions_table("item_mean")
    record = give(run, table, predicted([0.5, 0.6, 0.2]), metadata=metadata)
    found = scored_without_llm("item_mean", record, run.lake)
    assert (found.title, found.kind, found.predictions.height) == ("item mean", "baseline", 3)
    cost = found.cost
    assert (cost.seconds, cost.predictions, cost.prompt_tokens, cost.token_rows) == (2.5, 100_000, 0, 100_000)
