"""The finished world: one run of the whole job for all tests that look at what it made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.pipeline.finished import make_finished
from rallrec_pipeline_tests.pipeline.given import looking_run, seeing
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, use_lake


@pytest.fixture(scope="session")
def finished_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `lake`, `settings.toml` and the LLM, for all workers; tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root = shared / "finished"
    with lake_lock(shared, "finished", print):  # of several workers one makes it
        if not (root / "whole").exists():
            shutil.rmtree(root, ignore_errors=True)
            make_finished(root)
            (root / "whole").touch()
    return root


@pytest.fixture(scope="module")
def finished_lake(finished_world: Path) -> Iterator[Path]:
    """The lake of the finished world, which the environment names; runs go into no instance that stays."""
    with pytest.MonkeyPatch.context() as patch:
        use_lake(finished_world / "lake", finished_world / "settings.toml", patch)
        patch.delenv("DAGSTER_HOME")
        yield finished_world / "lake"


@pytest.fixture
def copy(finished_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished lake with files of its own, for a test that changes it."""
    target = tmp_path / "lake"
    shutil.copytree(finished_lake, target, symlinks=True)
    monkeypatch.setenv("RALLREC_LAKE", str(target))
    return target


@pytest.fixture
def finished_run(finished_world: Path, finished_lake: Path, tmp_path: Path) -> StageRun:
    """A run with all that was made as its inputs, on a copy of the finished lake; stages may be worked in it."""
    run = seeing(looking_run(copied_world(finished_world, tmp_path), SMALL, load_settings("demo", lake=finished_lake)))
    return replace(run, inputs=dict(run.inputs))
