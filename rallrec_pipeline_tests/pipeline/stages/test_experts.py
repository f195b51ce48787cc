"""The stage `expert_predictions` and its check, on a small lake and a tiny encoder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.pipeline.checks.llm import experts_score_the_same_rows
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.experts import shown_retriever
from rallrec_pipeline.settings import Settings, load_settings
from rallrec_pipeline_tests.pipeline.given import in_force_now, looking_run, seeing
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world


@pytest.fixture
def run(finished_lake: Path) -> StageRun:
    """A finished lake, in which the experts have scored 20 users' ratings of 10 items."""
    return seeing(looking_run(finished_lake, SMALL, load_settings()))


@pytest.fixture
def own_run(finished_world: Path, finished_lake: Path, tmp_path: Path) -> StageRun:
    """The same in a copy of the test's own."""
    return seeing(looking_run(copied_world(finished_world, tmp_path), SMALL, load_settings()))


def test_every_expert_scores_the_validation_and_test_rows_of_the_llm(run: StageRun) -> None:
    asked = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train").sort("sample_id")
    for name in EXPERTS:
        rows = run.read(tables.predictions_table(name))
        assert rows.select("sample_id", "split", "label").equals(asked.select("sample_id", "split", "label"))
        assert rows["p_yes"].is_between(0, 1).all() and rows["probabilities"].null_count() == rows.height
    told = in_force_now(run.lake, SMALL, "expert_predictions").metadata
    assert list(told["seconds"]) == list(told["training_rows"]) == list(EXPERTS)
    assert told["rows"] == asked.height and told["training_rows"]["prompt_logistic"] == 6


@pytest.mark.parametrize(
    "wrong",
    [
        pl.DataFrame.clear,
        lambda rows: rows[1:],
        lambda rows: rows.with_columns(p_yes=pl.lit(float("nan"))),
        lambda rows: rows.with_columns(p_yes=pl.lit(1.5)),
        lambda rows: rows.with_columns(label=1 - pl.col("label")),
    ],
)
def test_the_check_finds_an_expert_with_other_rows_or_without_probabilities(own_run: StageRun, wrong: object) -> None:
    run = own_run
    assert experts_score_the_same_rows(run).passed
    table = tables.predictions_table("item_knn")
    rows = run.read(table)
    write_table(wrong(rows), table, run.folder("expert_predictions"), SMALL)  # type: ignore[operator]
    found = experts_score_the_same_rows(run)
    assert not found.passed and found.figures["bad"] == ["item_knn"]


def test_the_control_reads_the_histories_of_the_mixture_or_else_of_the_first_retriever() -> None:
    assert shown_retriever(Settings(profile="demo")) == "mixture"
    own = {"mine": {"retriever": "by_text"}}
    settings = Settings.model_validate(
        {"profile": "x", "retrievers": {"by_text": {"parts": {"text": 1}}}, "methods": own, "only_methods": ["mine"]}
    )
    assert shown_retriever(settings) == "by_text"
