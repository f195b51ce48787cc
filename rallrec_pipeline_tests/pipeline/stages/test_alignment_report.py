"""The stage that writes the report on alignment, and the check of its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.embeddings.mixture import mix
from rallrec_pipeline.embeddings.text import embeddings_frame
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.checks.alignment import alignment_figures_hold
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import AlignmentSettings, load_settings
from rallrec_pipeline_tests.evaluation.alignment_examples import WEIGHTS, vectors
from rallrec_pipeline_tests.pipeline.given import give, looking_run, work
from rallrec_pipeline_tests.pipeline.tiny import add_datasets

NAME, ITEMS, USERS = "small", 30, 8


@pytest.fixture
def run(tmp_path: Path, built_in_settings_only: None) -> StageRun:
    """A catalogue of which the last item has no training rating, so nothing was learned of it."""
    add_datasets(tmp_path, NAME)
    quick = AlignmentSettings(hidden=8, epochs=5)
    made = looking_run(tmp_path, NAME, load_settings("demo").model_copy(update={"alignment": quick}))
    ids = [f"i{number}" for number in range(ITEMS)]
    give(made, tables.CORE_ITEMS, pl.DataFrame({"item_id": ids, "title": [f"<b>Title {i}" for i in range(ITEMS)]}))
    rows = [(f"u{u}", item, 4.0, 100 * u + n) for u in range(USERS) for n, item in enumerate(ids[: ITEMS - u - 1])]
    core = pl.DataFrame(rows, schema=tables.CORE_INTERACTIONS.columns, orient="row")  # type: ignore[arg-type]
    give(made, tables.CORE_INTERACTIONS, core)
    give(made, tables.SAMPLES, samples_of(core))
    parts = vectors(ITEMS)
    parts["collaborative"][-1] = 0
    for kind, part in (parts | {"item": mix(parts, WEIGHTS)}).items():  # type: ignore[arg-type]
        frame = embeddings_frame(ids, part, ["h"] * ITEMS, "1", "", "run")
        give(made, tables.embeddings_table(kind), frame, metadata={"weights": WEIGHTS})
    return made


def samples_of(core: pl.DataFrame) -> pl.DataFrame:
    """All are training samples but those of the last user."""
    return core.with_columns(
        sample_id=pl.int_range(pl.len(), dtype=pl.Int64),
        split=pl.when(pl.col("user_id") == f"u{USERS - 1}").then(pl.lit("test")).otherwise(pl.lit("train")),
        label=pl.lit(1, pl.Int8),
        history_length=pl.lit(0, pl.Int32),
    ).select(*tables.SAMPLES.columns)


def test_the_stage_writes_json_and_page_and_shows_numbers_and_a_picture(run: StageRun) -> None:
    made, record = work(run, "alignment_report")
    folder = record.folder(run.lake) / "reports" / NAME
    assert sorted(path.name for path in folder.iterdir()) == ["alignment_report.html", "alignment_report.json"]
    report = json.loads((folder / "alignment_report.json").read_text(encoding="utf-8"))
    assert report["measured"]["items"] == ITEMS - 1 and report["category"]["field"] is None
    first = report["nearest"][0]
    assert (first["item_id"], first["training_ratings"]) == ("i0", USERS - 1), "test ratings are not counted"
    assert report["provenance"]["stages"]["samples"]["data_version"] == run.inputs["samples"].data_version
    page = (folder / "alignment_report.html").read_text(encoding="utf-8")
    assert "<b>Title" not in page and "(b&gt;Title 0" in page and page.count("base64,") == 6
    shown = made.metadata
    assert shown["recall_at_10_held_out"] == report["figures"]["held_out"]["recall_at_10"]
    assert shown["alignment_fitted"] == report["figures"]["fitted"]["alignment"]
    assert shown["picture"].text.count("data:image/png;base64,") == 1 and len(shown["picture"].text) < 100_000
    numbers = {name: value for name, value in shown.items() if name not in ("picture", "not_measured")}
    assert all(isinstance(value, int | float) for value in numbers.values())


def test_the_same_inputs_give_the_same_files(run: StageRun) -> None:
    inputs = dict(run.inputs)
    first, second = (work(replace(run, inputs=dict(inputs)), "alignment_report")[1] for _ in range(2))
    assert first.data_version == second.data_version and first.fingerprint != second.fingerprint


def test_the_check_finds_the_figures_again_and_wrong_ones_out(run: StageRun) -> None:
    _, record = work(run, "alignment_report")
    verdict = alignment_figures_hold(run)
    assert verdict.passed and verdict.figures["wrong_split"] == 0, verdict.figures
    file = record.folder(run.lake) / "reports" / NAME / "alignment_report.json"
    right = file.read_text(encoding="utf-8")

    def broken(change: Callable[[Any], None]) -> dict[str, Any]:
        report = json.loads(right)
        change(report)
        file.write_text(json.dumps(report), encoding="utf-8")
        found = alignment_figures_hold(run)
        assert not found.passed
        return found.figures

    assert broken(lambda r: r["figures"]["fitted"].update(uniformity=float("nan")))["no_numbers"] == 1
    assert broken(lambda r: r["figures"]["in_use"].update(alignment=1.0))["alignment_off_by"] > 0.5
    assert broken(lambda r: r["measured"]["held_out_items"].append("nobody"))["wrong_split"] == 2
    assert broken(lambda r: r["measured"]["held_out_items"].append("i0"))["wrong_split"] > 0
    assert broken(lambda r: r["nearest"][0]["nearest"]["text"].pop(0))["nearest_off_by"] > 1e-3


def test_nine_items_make_a_report_that_says_so(run: StageRun) -> None:
    ids = [f"i{number}" for number in range(9)]
    give(run, tables.CORE_ITEMS, pl.DataFrame({"item_id": ids, "title": [""] * 9}))
    core = run.read(tables.CORE_INTERACTIONS).filter(pl.col("item_id").is_in(ids))
    give(run, tables.CORE_INTERACTIONS, core)
    give(run, tables.SAMPLES, samples_of(core))
    made, _ = work(run, "alignment_report")
    assert made.metadata["items_measured"] == 0 and "9 items have both" in made.metadata["not_measured"]
    assert alignment_figures_hold(run).passed
    assert not np.any([name.startswith("recall") for name in made.metadata])
