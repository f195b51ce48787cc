"""The whole job of a tiny dataset under leave-last-out: what is fitted sees training rows, and the report is whole."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline_tests.pipeline.tiny import SMALL, make_world, replace_once

PAIR = ["user_id", "item_id"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which the job has not run."""
    root = tmp_path_factory.mktemp("last")
    with pytest.MonkeyPatch.context() as patch:
        made = make_world(root, patch, (SMALL,))
        replace_once(made / "catalog" / f"{SMALL}.toml", "min_history = 3\n", 'min_history = 3\nsplit = "last"\n')
        patch.delenv("DAGSTER_HOME")
        summary = materialize_dataset(SMALL)
    assert summary.error is None and all(summary.worked.values())
    assert all(summary.checks.values()), summary.checks
    assert isinstance(summary, RunSummary)
    return made


def test_every_user_has_one_test_row_and_one_validation_row(lake: Path) -> None:
    samples = read_table(tables.SAMPLES, lake, SMALL)
    counts = samples["split"].value_counts()
    assert dict(counts.iter_rows()) == {"test": 20, "valid": 20, "train": 60}
    histories = read_table(tables.RETRIEVED_HISTORIES, lake, SMALL)
    held_out = samples.filter(pl.col("split") != "train").select(PAIR)
    tuning = histories.filter(pl.col("split") == "train").explode("recent").select("user_id", item_id="recent")
    assert tuning.join(held_out, on=PAIR).is_empty(), "no prompt that is tuned on shows a held-out rating"


def test_what_lightgcn_saw_is_training_and_more_than_a_split_in_time_gives(lake: Path) -> None:
    samples = read_table(tables.SAMPLES, lake, SMALL)
    fitted = read_table(tables.FITTED_INTERACTIONS, lake, SMALL)
    assert fitted.join(samples.filter(pl.col("split") != "train"), on=PAIR).is_empty()
    assert fitted.height <= 160 - 40


def test_the_report_scores_all_on_the_same_rows_and_names_what_is_not_defined(lake: Path) -> None:
    report = json.loads((lake / "reports" / SMALL / "evaluation.json").read_text(encoding="utf-8"))
    assert {figures["n"] for figures in report["methods"].values()} == {report["n_test"]}
    rallrec = report["methods"]["rallrec"]
    assert rallrec["uauc"] is None and "uauc" in rallrec["not_defined"], "a user has one test row"
    page = (lake / "reports" / SMALL / "dataset.html").read_text(encoding="utf-8")
    assert "each user&#39;s last sample left out" in page
