"""The whole graph on a slice of real data: real Dagster, real LLM, real FAISS."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.baselines.experts import EXPERTS
from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError, RallrecError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES
from rallrec_pipeline_tests.pipeline.given import in_force_now

METHODS = {
    "zero_shot",
    "recent",
    "rallrec",
    *COMMON_SENSE,
    *EXPERTS,
}


@pytest.fixture(scope="module")
def first_run(slice_lake: Path) -> RunSummary:
    """One materialization of everything."""
    return materialize_dataset("slice")


def test_every_stage_works_the_first_time(first_run: RunSummary) -> None:
    assert first_run.error is None
    assert set(first_run.worked) == set(STAGES)
    # The model is shared with other datasets, so another test may have made it.
    assert all(first_run.worked[stage.name] for stage in GRAPH if stage.partitioned)


def test_the_report_holds_all_methods_on_the_same_rows(first_run: RunSummary, slice_lake: Path) -> None:
    report = json.loads((slice_lake / "reports" / "slice" / "evaluation.json").read_text(encoding="utf-8"))
    assert set(report["methods"]) == METHODS
    assert {m["n"] for m in report["methods"].values()} == {report["n_test"]} == {24}
    samples = read_table(tables.SAMPLES, slice_lake, "slice")
    assert report["n_train_baselines"] == samples.filter(pl.col("split") == "train").height > report["n_train"] == 12
    assert all(0 <= m["auc"] <= 1 and m["auc_se"] > 0 and m["log_loss"] > 0 for m in report["methods"].values())
    assert report["paper"] is not None and report["provenance"]["run_id"] == first_run.run_id


def test_the_page_escapes_the_dataset_title(first_run: RunSummary, slice_lake: Path) -> None:
    page = (slice_lake / "reports" / "slice" / "evaluation.html").read_text(encoding="utf-8")
    assert "<b>MovieLens</b>" not in page and "&lt;b&gt;MovieLens&lt;/b&gt;" in page
    assert page.count("data:image/svg+xml") >= 2


def test_checks_of_every_group_passed(first_run: RunSummary) -> None:
    assert first_run.checks and all(first_run.checks.values())
    for name in ("fitted_on_training_only", "k_core_holds", "index_equals_brute_force", "evaluation_prompts_fit"):
        assert name in first_run.checks


def test_a_second_run_does_no_work(first_run: RunSummary, slice_lake: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in slice_lake.rglob("*.parquet")}
    again = materialize_dataset("slice")
    assert again.error is None and not any(again.worked.values()) and len(again.worked) == len(GRAPH)
    assert {file: file.stat().st_mtime_ns for file in slice_lake.rglob("*.parquet")} == before


def test_adapters_are_safetensors_with_provenance(first_run: RunSummary, slice_lake: Path) -> None:
    for adapter in ("recent", "rallrec"):
        folder = slice_lake / "checkpoints" / "slice" / adapter
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        assert (folder / "adapter_model.safetensors").stat().st_size > 0
        assert provenance["run_id"] == first_run.run_id and provenance["base_model"]["fingerprint"]


def test_every_embedding_row_says_what_made_it(first_run: RunSummary, slice_lake: Path) -> None:
    for kind in ("title", "description", "text", "collaborative", "aligned", "item"):
        table = read_table(tables.embeddings_table(kind), slice_lake, "slice")
        assert table["input_hash"].null_count() == 0 and set(table["run_id"]) == {first_run.run_id}


def test_every_method_scores_the_same_validation_and_test_rows(first_run: RunSummary, slice_lake: Path) -> None:
    rows = {
        method: set(
            read_table(tables.predictions_table(method), slice_lake, "slice").select("sample_id", "split").rows()
        )
        for method in ("rallrec", "zero_shot", "item_mean", "boosted_trees")
    }
    assert {split for _, split in rows["rallrec"]} == {"valid", "test"}
    assert all(found == rows["rallrec"] for found in rows.values())


def test_lost_predictions_are_made_again_without_the_llm(first_run: RunSummary, slice_lake: Path) -> None:
    before = in_force_now(slice_lake, "slice", "predictions")
    tables.predictions_table("rallrec").file(slice_lake, "slice").resolve().unlink()
    summary = materialize_dataset("slice")
    assert [name for name, worked in summary.worked.items() if worked] == ["predictions"]
    after = in_force_now(slice_lake, "slice", "predictions")
    assert after.data_version == before.data_version
    assert before.metadata["llm"]["rows"] > 0 and after.metadata["llm"]["rows"] == 0
    assert after.metadata["seconds"] == before.metadata["seconds"]


def test_a_lost_link_is_put_back_without_work(first_run: RunSummary, slice_lake: Path) -> None:
    link = tables.SAMPLES.file(slice_lake, "slice")
    target = link.readlink()
    link.unlink()
    assert not any(materialize_dataset("slice", ["samples"]).worked.values()) and link.readlink() == target


def test_a_failing_check_holds_back_what_is_downstream(first_run: RunSummary, slice_lake: Path) -> None:
    """Without a training split there is nothing to fit on: nothing may be fitted."""
    skewed = slice_lake / "catalog" / "skewed.toml"
    text = (slice_lake / "catalog" / "slice.toml").read_text(encoding="utf-8")
    fractions = "fractions = [0.0001, 0.1, 0.8999]"
    skewed.write_text(text.replace("min_history = 5", f"min_history = 5\n{fractions}"), encoding="utf-8")
    try:
        data = [stage.name for stage in GRAPH if stage.group in ("raw", "data")]
        summary = materialize_dataset("skewed", [*data, "collaborative_embeddings"])
        assert summary.checks["labels_balanced"] is False and "collaborative_embeddings" not in summary.worked
        assert summary.error and "labels_balanced" in summary.error
    finally:
        skewed.unlink()


def test_another_split_is_no_dead_end(first_run: RunSummary, slice_lake: Path) -> None:
    """What is fitted follows a changed protocol, and the checks follow what is fitted."""
    file = slice_lake / "catalog" / "slice.toml"
    before = file.read_text(encoding="utf-8")
    names = [stage.name for stage in GRAPH if stage.group == "data"] + ["collaborative_embeddings"]
    old = read_table(tables.FITTED_INTERACTIONS, slice_lake, "slice").height
    try:
        file.write_text(
            before.replace("min_history = 5", "min_history = 5\nfractions = [0.6, 0.2, 0.2]"), encoding="utf-8"
        )
        summary = materialize_dataset("slice", names)
        assert summary.error is None and summary.worked["collaborative_embeddings"]
        assert read_table(tables.FITTED_INTERACTIONS, slice_lake, "slice").height < old
    finally:
        file.write_text(before, encoding="utf-8")
    assert materialize_dataset("slice", names).error is None


def test_the_fitted_interactions_spare_the_tuning_targets(first_run: RunSummary, slice_lake: Path) -> None:
    fitted = read_table(tables.FITTED_INTERACTIONS, slice_lake, "slice")
    tuned = read_table(tables.RETRIEVED_HISTORIES, slice_lake, "slice").filter(pl.col("split") == "train")
    assert tuned.height == 12 and fitted.join(tuned, on=["user_id", "item_id"], how="semi").is_empty()


def test_unknown_names_are_one_line(slice_lake: Path) -> None:
    with pytest.raises(ConfigError, match="unknown asset 'nothing': choose from raw_files, "):
        materialize_dataset("slice", ["nothing"])
    for arguments in (["run", "no-such"], ["run", "slice", "--profile", "no-such"], ["report", "movielens-100k"]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, RallrecError) and "\n" not in str(result.exception)


def test_the_graph_has_no_missing_input() -> None:
    seen: set[str] = set()
    for stage in GRAPH:
        assert set(stage.inputs) <= seen, f"{stage.name} stands before its inputs"
        seen.add(stage.name)
    assert len(STAGES) == len(GRAPH)
