"""The whole job of a tiny dataset that is split by date, with rows that have no history at all, as CoLLM's have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.pipeline.tiny import SMALL, make_world, ratings_file, replace_once

FIRST = datetime(2001, 6, 1, tzinfo=UTC)


@pytest.mark.slow
def test_every_stage_runs_and_every_check_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_world(tmp_path, monkeypatch, (SMALL,))
    monkeypatch.delenv("DAGSTER_HOME")
    file = ratings_file(lake, SMALL)
    rows = pl.read_csv(file).sort("timestamp", maintain_order=True)
    hours = [int((FIRST + timedelta(hours=6 * place)).timestamp()) for place in range(rows.height)]
    rows.with_columns(timestamp=pl.Series(hours)).write_csv(file)
    days = [(FIRST + timedelta(hours=6 * round(rows.height * share))).date() for share in (0.6, 0.8)]
    dates = f'split = "date"\ndates = {{ valid = {days[0]}, test = {days[1]} }}'
    replace_once(lake / "catalog" / f"{SMALL}.toml", "min_history = 3\n", f"min_history = 0\n{dates}\n")
    summary = materialize_dataset(SMALL)
    assert summary.error is None and all(summary.checks.values()), summary.checks
    samples = read_table(tables.SAMPLES, lake, SMALL)
    assert samples["history_length"].min() == 0 and samples["split"].n_unique() == 3
    report = read_json(lake / "reports" / SMALL / "evaluation.json")
    assert {figures["n"] for figures in report["methods"].values()} == {report["n_test"]}
    page = (lake / "reports" / SMALL / "dataset.html").read_text(encoding="utf-8")
    assert "split by date" in page
