"""What makes a stage stale, in words; and that results are never filed under another model."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.provenance import Sidecar, read_sidecar, write_sidecar
from rallrec_pipeline.pipeline.context import SHARED, Made, StageRun
from rallrec_pipeline.pipeline.stage import Stage, changes, run_stage
from rallrec_pipeline.pipeline.stages.engine import model_version
from rallrec_pipeline.settings import ModelSettings, load_settings

RECORD = Sidecar("a", "small", "f", "v", {"x": "1", "y": "1"}, {"k": {"n": 3, "m": None}}, "1", "run", "now", 1.0)


@pytest.fixture(autouse=True)
def built_in_settings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RALLREC_SETTINGS", "RALLREC_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def stage_run(lake: Path) -> StageRun:
    return StageRun(lake, "small", load_settings("demo"), "run", lambda _: None, lambda _: lambda done, total: None)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(RECORD, inputs={"x": "2", "y": "1"}), "x changed"),
        (replace(RECORD, inputs={"x": "1", "y": "1", "z": "1"}), "z is no input any more"),
        (replace(RECORD, settings={"k": {"n": 4, "m": None}}), "setting k.n changed"),
        (replace(RECORD, code_version="0"), "the code changed"),
        (replace(RECORD, settings={"k": {"n": 3}}), "what it depends on changed"),  # a setting of no value came
    ],
)
def test_a_stale_stage_always_says_why(record: Sidecar, reason: str) -> None:
    assert changes(record, RECORD.inputs, RECORD.settings, RECORD.code_version) == [reason]


def test_a_touched_file_is_hashed_once(tmp_path: Path) -> None:
    def compute(run: StageRun) -> Made:
        (run.lake / "made.txt").write_text("content", encoding="utf-8")
        return Made([run.lake / "made.txt"])

    stage = Stage("made", "data", (), "", compute, partitioned=False, depends_on=lambda s, d: {})
    run = stage_run(tmp_path)
    assert run_stage(stage, run, frozenset(["made"])).worked
    os.utime(tmp_path / "made.txt", (1, 1))
    assert not run_stage(stage, run, frozenset(["made"])).worked
    record = read_sidecar(tmp_path, "made", SHARED)
    assert record is not None and record.states[0][2] == 1_000_000_000


def test_results_are_never_filed_under_another_model(tmp_path: Path) -> None:
    model = ModelSettings()
    known = {"source": model.source, "name": model.name}
    record = Sidecar("base_model", SHARED, "f", "v", {}, known, "1", "run", "now", 1.0)
    write_sidecar(tmp_path, record)
    plain = model_version(stage_run(tmp_path))
    write_sidecar(tmp_path, replace(record, metadata={"auto_dtype": "float32"}))
    assert model_version(stage_run(tmp_path)) != plain
    write_sidecar(tmp_path, replace(record, settings=known | {"name": "another"}))
    with pytest.raises(StaleArtefactError, match="base_model is 'another'"):
        model_version(stage_run(tmp_path))
