"""200 runs by the services of docs/deploy: memory, files, processes and the lake stay what they were.

RALLREC_SOAK_RUNS sets another number, and RALLREC_SOAK_JSON where the figures go.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from rallrec_pipeline.lake.prune import PruneOptions, prune_lake
from rallrec_pipeline_tests.orchestration.postgres import needs_postgres, postgres_server
from rallrec_pipeline_tests.orchestration.services import RUN_S, SERVICES, Services, is_over, services, set_up, wait_for
from rallrec_pipeline_tests.orchestration.shop import write_ratings

pytestmark = [pytest.mark.process, pytest.mark.slow, needs_postgres]

RUNS = int(os.environ.get("RALLREC_SOAK_RUNS") or 200)
AT_ONCE = 5
WARM = 40  # runs until caches are full, and the history is as long as it is kept
KEEP = 5  # entries of the history, as `rallrec prune` keeps them
AT_REST = 3  # processes of the code location: its server, the one that holds the code, and what tracks its children
STAGES = ("raw_files", "interactions", "items")
GROWTH_MB, GROWTH_FILES = 40, 8


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with postgres_server() as server:
        yield set_up(tmp_path, server, monkeypatch)


def test_two_hundred_runs_leave_the_services_and_the_lake_as_they_were(lake: Path, tmp_path: Path) -> None:
    figures = []
    with services(tmp_path / "home") as running, dg.DagsterInstance.get() as instance:
        for number in range(0, RUNS, AT_ONCE):
            write_ratings(lake, "shop", f"u,i,{1 + number // AT_ONCE % 5},{number}\n")
            ids = [running.launch(STAGES) for _ in range(AT_ONCE)]
            for run_id in ids:
                wait_for(lambda run_id=run_id: is_over(instance, run_id), f"run {number}", RUN_S)
            assert {run.status.value for run in instance.get_runs(limit=AT_ONCE)} == {"SUCCESS"}
            prune_lake(lake, None, PruneOptions(keep=KEEP), print)
            wait_for(lambda: _processes(running, "code") <= AT_REST, "the processes of the runs have ended")
            figures.append({"runs": number + AT_ONCE, **_taken(running), **_kept(lake)})
            print(json.dumps(figures[-1]), flush=True)
            _write(figures)
    early, late = _at(figures, WARM), figures[-1]
    for service in SERVICES:
        assert late[f"{service}_mb"] - early[f"{service}_mb"] < GROWTH_MB, service
        assert late[f"{service}_fds"] - early[f"{service}_fds"] <= GROWTH_FILES, service
        assert late[f"{service}_processes"] == early[f"{service}_processes"], service
    assert late["lake_files"] == early["lake_files"]
    assert late["lake_kb"] - early["lake_kb"] < 64


def _at(figures: list[dict[str, float]], runs: int) -> dict[str, float]:
    return next(one for one in figures if one["runs"] >= min(runs, RUNS))


def _taken(running: Services) -> dict[str, float]:
    """Memory (MB), open files and processes of each service and of what it has started."""
    found: dict[str, float] = {}
    for service, process in running.processes.items():
        whole = psutil.Process(process.pid)
        tree = [whole, *whole.children(recursive=True)]
        found[f"{service}_mb"] = round(sum(one.memory_info().rss for one in tree) / 1e6, 1)
        found[f"{service}_fds"] = sum(one.num_fds() for one in tree)
        found[f"{service}_processes"] = len(tree)
    return found


def _processes(running: Services, service: str) -> int:
    return 1 + len(psutil.Process(running.processes[service].pid).children(recursive=True))


def _kept(lake: Path) -> dict[str, float]:
    files = [path for path in lake.rglob("*") if path.is_file() and not path.is_symlink()]
    return {"lake_files": len(files), "lake_kb": round(sum(path.stat().st_size for path in files) / 1e3, 1)}


def _write(figures: list[dict[str, float]]) -> None:
    if target := os.environ.get("RALLREC_SOAK_JSON"):
        Path(target).write_text(json.dumps({"runs": figures}, indent=1) + "\n", encoding="utf-8")
