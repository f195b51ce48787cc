"""`kill -9` at random moments, then a run to the end: the same artefacts as without, and no LLM row twice.

RALLREC_KILLS sets how often (default 5) and adds the slice with the real LLM; RALLREC_KILL_SEED draws other moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rallrec_pipeline.lake.leftovers import TEMPORARY
from rallrec_pipeline.lake.memo_rows import KINDS
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import make_world

pytestmark = pytest.mark.process

KILLS = int(os.environ.get("RALLREC_KILLS") or 5)
SEED = int(os.environ.get("RALLREC_KILL_SEED") or 1)
LIMIT_S = 900
LONGEST_WAIT_S = 1.5  # within one stage
OWN = {
    "checksum",  # of the run and times too
    "run_id",
    "created_at",
    "made at",
    "seconds",
    "tokens_per_second",
    "seconds_per_epoch",
    "seconds_per_million",
    "fit_seconds",
    "scored",
    "reused",
    "llm",
    "why",
}
ARTEFACTS = ("tables", "embeddings", "index", "prompts", "checkpoints", "predictions", "reports")
RUN_OR_TIME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:+.]+")


def test_killed_runs_of_a_tiny_world_end_like_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_world(tmp_path, monkeypatch, ("small",))
    broken = shutil.copytree(whole, tmp_path / "broken")
    kill_and_compare(whole, broken, "small")


@pytest.mark.skipif("RALLREC_KILLS" not in os.environ, reason="minutes a kill: set RALLREC_KILLS to run it")
def test_killed_runs_of_the_slice_end_like_an_undisturbed_one(
    slice_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    kill_and_compare(copied(slice_lake, tmp_path / "whole"), copied(slice_lake, tmp_path / "broken"), "slice")


def kill_and_compare(whole: Path, broken: Path, dataset: str) -> None:
    lines = run_until(whole, dataset)
    moments, finished = random.Random(SEED), []
    for _ in range(KILLS):
        # Stages that are up to date say so: a run that goes on has about as many lines as one that starts anew.
        run_until(broken, dataset, moments.randint(1, len(GRAPH)), moments.uniform(0, LONGEST_WAIT_S))
        finished.append(origins(broken))
    assert lines >= len(GRAPH)
    run_until(broken, dataset)
    compare(whole, broken, dataset)
    # A row that was computed again would be that of another run.
    assert all(before <= origins(broken) for before in finished)
    assert {key for key, *_ in origins(broken)} == {key for key, *_ in origins(whole)}


def run_until(lake: Path, dataset: str, line: int | None = None, wait_s: float = 0) -> int:
    """Run to the end, or `kill -9` the run `wait_s` after it has written so many lines; returns how many it wrote."""
    environment = os.environ | {"RALLREC_LAKE": str(lake)}
    arguments = [sys.executable, "-m", "rallrec_pipeline.cli", "run", dataset]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as process:
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        assert process.stderr is not None
        written = 0
        for written, _ in enumerate(process.stderr, 1):
            if written == line:
                time.sleep(wait_s)
                process.kill()
                break
        watchdog.cancel()
        assert process.wait() == (0 if line is None else -signal.SIGKILL)
    return written


def compare(whole: Path, broken: Path, dataset: str) -> None:
    left, right = artefacts(whole), artefacts(broken)
    assert left.keys() == right.keys() and len(left) > 40
    different = [name for name in left if left[name] != right[name]]
    assert not different
    for stage in GRAPH:
        if stage.partitioned and stage.group not in ("raw", "reports"):
            records = [in_force_now(lake, dataset, stage.name) for lake in (whole, broken)]
            assert records[0].fingerprint == records[1].fingerprint, stage.name
            assert records[0].data_version == records[1].data_version, stage.name


def artefacts(lake: Path) -> dict[str, Any]:
    """Content of all artefacts by path, without run ids and times.

    What a killed run was writing lies beside them under a temporary name, which `rallrec prune` removes after a day.
    """
    top = [
        Path(folder, name)
        for kind in ARTEFACTS
        for folder, _, names in os.walk(lake / kind, followlinks=True)
        for name in names
    ]
    found = {file.relative_to(lake): file for file in top}
    kept = {name for name in found if not any(TEMPORARY.fullmatch(part) for part in name.parts)}
    return {name.as_posix(): content(found[name]) for name in kept}


def content(file: Path) -> Any:
    if file.suffix == ".parquet":
        frame = pl.read_parquet(file)
        return frame.drop(name for name in frame.columns if name in OWN).serialize()
    if file.suffix == ".json":
        return without_times(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".csv" and "reports" in file.parts:
        return without_times(pl.read_csv(file).to_dict(as_series=False))
    if file.suffix == ".html":
        # Seconds are among the figures, which the JSON beside the page holds too; pictures are compared as they are,
        # but for that of the cost.
        page = re.sub(r'<section id="cost">.*?</section>', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        return [
            part if part.startswith("data:image") else re.sub(r"[\d.,]+", "", RUN_OR_TIME.sub("", part))
            for part in page.split('"')
            if not part.startswith("data:text/csv")
        ]
    return file.read_bytes()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in OWN}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def origins(lake: Path) -> set[tuple[str, str, str]]:
    """Key, run and time of all finished LLM rows."""
    rows = [stored_rows(lake, kind).select("key", "run_id", "created_at") for kind in KINDS]
    return set(pl.concat(rows).iter_rows())


def copied(slice_lake: Path, lake: Path) -> Path:
    """A lake with the slice's catalogue and the model, and nothing made."""
    for name in ("catalog", "models"):
        shutil.copytree(slice_lake / name, lake / name, symlinks=True)
    return lake
