"""Dagster's storage in a real Postgres server, with the instance of docs/deploy: runs, and the server gone and back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.orchestration.postgres import PostgresServer, needs_postgres, postgres_server
from rallrec_pipeline_tests.orchestration.services import DATA, set_up
from rallrec_pipeline_tests.pipeline.tiny import rallrec, read_until

pytestmark = [pytest.mark.process, needs_postgres]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def lake(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return set_up(tmp_path, server, monkeypatch)


def states() -> list[str]:
    """How all runs ended, newest first."""
    with dg.DagsterInstance.get() as instance:
        return [run.status.value for run in instance.get_runs()]


def run(*arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines of a run of the command line."""
    command = [sys.executable, "-m", "rallrec_pipeline.cli", "run", "shop", "--select", ",".join(DATA), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def test_a_server_that_goes_and_comes_back_costs_one_line_and_the_next_run_heals(
    lake: Path, server: PostgresServer
) -> None:
    assert materialize_dataset("shop", ["raw_files"]).error is None
    assert states() == ["SUCCESS"]

    # Gone before a run.
    server.stop()
    status, lines = run()
    assert status == 1 and len(lines) == 2 and "trying again" in lines[0], lines
    assert lines[1].startswith("rallrec: Dagster's storage cannot be reached") and "run again" in lines[1]
    assert not (lake / "results" / "shop" / "interactions").exists()

    # Gone within a run: what was finished stays.
    server.start()
    with rallrec("run", "shop", "--select", ",".join(DATA)) as process:
        with lake_lock(lake, "_shared", print):
            read_until(process, "waiting for another run")
            server.stop()
        said = process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == 1 and not any("Traceback" in line for line in said), said
    assert [line for line in said if line.startswith("rallrec:")][-1:] == said[-1:] and "storage" in said[-1]

    # Back again.
    server.start()
    assert states()[1:] == ["SUCCESS"] and states()[0] in ("STARTED", "FAILURE")
    status, lines = run()
    assert status == 0, lines
    assert states() == ["SUCCESS", "FAILURE", "SUCCESS"]
