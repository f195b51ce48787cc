"""The files of docs/deploy: they parse, agree with one another, and what they start works together on Postgres."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.orchestration.postgres import PostgresServer, needs_postgres, postgres_server
from rallrec_pipeline_tests.orchestration.services import (
    DATA,
    DEPLOY,
    RUN_S,
    SERVICES,
    command_of,
    is_over,
    services,
    set_up,
    status_of,
    wait_for,
)
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

UNITS = sorted((DEPLOY / "systemd").iterdir())
ENVIRONMENT = ("RALLREC_LAKE", "DAGSTER_HOME", "RALLREC_POSTGRES_URL")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/rallrec/.venv/bin", str(Path(sys.executable).parent))
        text = text.replace("/opt/rallrec", str(REPOSITORY))
        (tmp_path / unit.name).write_text(text.replace("/etc/rallrec.env", str(DEPLOY / "rallrec.env")))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    told = [line for line in (done.stdout + done.stderr).splitlines() if "rallrec" in line]
    assert not told, told


def test_units_and_containers_start_the_same_commands_and_programs_that_are_there() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {*SERVICES, "postgres"}
    for service in SERVICES:
        program, *arguments = command_of(service)
        assert [Path(program).name, *arguments] == shlex.split(compose["services"][service]["command"])
        assert (Path(sys.executable).parent / Path(program).name).exists()
    container = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    copied = [word for line in container.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied and all((REPOSITORY / name).exists() for name in copied)
    assert all(os.access(DEPLOY / name, os.X_OK) for name in ("backup.sh", "restore.sh"))


def test_the_instance_differs_from_that_of_the_repository_in_storage_retries_and_retention_only() -> None:
    own, server = (yaml.safe_load((f / "dagster.yaml").read_text()) for f in (REPOSITORY, DEPLOY))
    added = {"storage", "run_retries", "retention"}
    server["run_monitoring"].pop("cancel_timeout_seconds")
    assert {k: v for k, v in own.items() if k not in added} == {k: v for k, v in server.items() if k not in added}
    assert server["storage"]["postgres"]["postgres_url"] == {"env": "RALLREC_POSTGRES_URL"}, "no password in a file"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture
def lake(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return set_up(tmp_path, server, monkeypatch)


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEPLOY / name, *arguments], capture_output=True, text=True, timeout=120)


def logged(root: Path, calls: Path, *names: str) -> Path:
    """A folder with programs that write their arguments and the password to `calls`, and are what their names say."""
    for name in names:
        path = root / "logged" / name
        path.parent.mkdir(exist_ok=True)
        told = f'printf "%s\\npassword %s\\n" "$*" "$PGPASSWORD" >>{calls}'
        path.write_text(f'#!/bin/sh\n{told}\nexec {shutil.which(name)} "$@"\n')
        path.chmod(0o755)
    return root / "logged"


@pytest.mark.process
@needs_postgres
@pytest.mark.skipif(None in (shutil.which("pg_dump"), shutil.which("flock")), reason="no pg_dump or no flock")
def test_a_backup_waits_for_runs_and_a_restored_one_is_up_to_date(
    lake: Path, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, calls = "s%40cr%5Ct", tmp_path / "calls"
    monkeypatch.setenv("RALLREC_POSTGRES_URL", server.url.replace("rallrec@", f"rallrec:{secret}@"))
    monkeypatch.setenv("PATH", f"{logged(tmp_path, calls, 'pg_dump', 'pg_restore')}:{os.environ['PATH']}")
    assert materialize_dataset("shop", DATA).error is None
    for name in ("files/kept.tmp", ".half.0a1b2c3d.tmp"):
        (lake / name).touch()
    with lake_lock(lake, "shop", print):
        waiting = subprocess.Popen([DEPLOY / "backup.sh", tmp_path / "backups"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        assert waiting.poll() is None, "a run is under way"
    (folder,) = waiting.communicate(timeout=120)[0].splitlines()
    assert waiting.returncode == 0 and [path.name for path in (tmp_path / "backups").iterdir()] == [Path(folder).name]

    refused = script("restore.sh", folder)
    assert refused.returncode == 1 and "is not empty" in refused.stderr, "nothing is overwritten"
    with postgres_server() as other:
        for name, value in zip(ENVIRONMENT, (lake, tmp_path / "new", f"{other.url}&password={secret}"), strict=True):
            monkeypatch.setenv(name, str(value))
        lake.rename(tmp_path / "lost")
        restored = script("restore.sh", folder)
        assert restored.returncode == 0, restored.stderr
        assert (lake / "files" / "kept.tmp").exists() and not (lake / ".half.0a1b2c3d.tmp").exists()
        with dg.DagsterInstance.get() as instance:
            assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"]
        status = [sys.executable, "-m", "rallrec_pipeline.cli", "status", "shop", "--verify", "--json"]
        told = subprocess.run(status, capture_output=True, text=True, timeout=120)
        assert told.returncode == 0, told.stderr
        assets = json.loads(told.stdout)["datasets"]["shop"]["assets"]
        assert {assets[name]["state"] for name in DATA} == {"fresh"}
        metrics = [sys.executable, DEPLOY / "metrics.py"]
        figures = subprocess.run(metrics, input=told.stdout, capture_output=True, text=True)
        assert 'rallrec_assets{dataset="shop",state="fresh"} 5' in figures.stdout.splitlines()
        assert "rallrec_damaged_files 0" in figures.stdout
        summary = materialize_dataset("shop", DATA)
        assert summary.error is None and not any(summary.worked.values())
    assert calls.read_text().count("password s@cr\\t") == 2, "both know the password"
    assert secret not in calls.read_text() and calls.read_text().count("s@cr") == 2, "it is no argument"
    assert not [path for path in Path(folder).rglob("*") if path.stat().st_mode & 0o077]
    damaged = Path(folder, "lake.tar")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert script("restore.sh", folder).returncode == 1


@pytest.mark.process
@pytest.mark.slow
@needs_postgres
def test_the_services_work_together_and_a_run_whose_code_location_was_killed_is_tried_again(
    lake: Path, tmp_path: Path
) -> None:
    with services(tmp_path / "home") as running, dg.DagsterInstance.get() as instance:
        first = running.launch()
        wait_for(lambda: is_over(instance, first), "the first run", RUN_S)
        assert status_of(instance, first) == "SUCCESS"

        # The code location dies in the midst of a run, with all that it has started.
        with lake_lock(lake, "shop", print):
            second = running.launch()
            wait_for(lambda: status_of(instance, second) == "STARTED", "the second run waits for the lock", RUN_S)
            running.kill("code")
        running.start("code")
        wait_for(lambda: status_of(instance, second) == "FAILURE", "the daemon marks the run", RUN_S)
        wait_for(lambda: len(instance.get_runs()) == 3, "the run is tried again", RUN_S)
        third = instance.get_runs()[0]
        assert third.parent_run_id == second
        wait_for(lambda: is_over(instance, third.run_id), "the retry", RUN_S)
        assert status_of(instance, third.run_id) == "SUCCESS"
    logged = (tmp_path / "home" / "daemon.log").read_text(encoding="utf-8").splitlines()
    assert any(json.loads(line) for line in logged if line.startswith("{")), "a JSON document a line"
