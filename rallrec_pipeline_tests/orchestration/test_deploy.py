"""The files of docs/deploy: they parse, agree with one another, and what they start works together on Postgres."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.orchestration.postgres import PostgresServer, needs_postgres, postgres_server
from rallrec_pipeline_tests.orchestration.shop import make_shop
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

DEPLOY = REPOSITORY / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = ("code", "daemon", "web")
ENVIRONMENT = ("RALLREC_LAKE", "DAGSTER_HOME", "RALLREC_POSTGRES_URL")
START_S, RUN_S = 120, 240


def command_of(service: str) -> list[str]:
    """What the unit of a service starts."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string((DEPLOY / "systemd" / f"rallrec-{service}.service").read_text(encoding="utf-8"))
    return shlex.split(unit["Service"]["ExecStart"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/rallrec/.venv/bin", str(Path(sys.executable).parent))
        text = text.replace("/opt/rallrec", str(REPOSITORY)).replace("User=rallrec", "User=nobody")
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
    """A lake with the dataset `shop`, and a home as docs/deploy says."""
    lake, home = make_shop(tmp_path, "shop"), tmp_path / "home"
    home.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    for name, value in zip(ENVIRONMENT, (lake, home, server.url), strict=True):
        monkeypatch.setenv(name, str(value))
    return lake


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DEPLOY / name, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.process
@needs_postgres
@pytest.mark.skipif(None in (shutil.which("pg_dump"), shutil.which("flock")), reason="no pg_dump or no flock")
def test_a_backup_waits_for_runs_and_a_restored_one_is_up_to_date(
    lake: Path, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["raw_files", "interactions", "items", "users", "rejected_rows"]
    assert materialize_dataset("shop", data).error is None
    with lake_lock(lake, "shop", print):
        waiting = subprocess.Popen([DEPLOY / "backup.sh", tmp_path / "backups"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        assert waiting.poll() is None, "a run is under way"
    (folder,) = waiting.communicate(timeout=120)[0].splitlines()
    assert waiting.returncode == 0 and [path.name for path in (tmp_path / "backups").iterdir()] == [Path(folder).name]

    refused = script("restore.sh", folder)
    assert refused.returncode == 1 and "is not empty" in refused.stderr, "nothing is overwritten"
    with postgres_server() as other:
        for name, value in zip(ENVIRONMENT, (lake, tmp_path / "new", other.url), strict=True):
            monkeypatch.setenv(name, str(value))
        lake.rename(tmp_path / "lost")
        restored = script("restore.sh", folder)
        assert restored.returncode == 0, restored.stderr
        shutil.copytree(tmp_path / "lost" / "files", lake / "files", dirs_exist_ok=True, symlinks=True)
        with dg.DagsterInstance.get() as instance:
            assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"]
        status = [sys.executable, "-m", "rallrec_pipeline.cli", "status", "shop", "--verify", "--json"]
        told = subprocess.run(status, capture_output=True, text=True, timeout=120)
        assert told.returncode == 0, told.stderr
        assets = json.loads(told.stdout)["datasets"]["shop"]["assets"]
        assert {assets[name]["state"] for name in data} == {"fresh"}
        figures = subprocess.run([sys.executable, DEPLOY / "metrics.py"], input=told.stdout, capture_output=True, text=True)
        assert 'rallrec_assets{dataset="shop",state="fresh"} 5' in figures.stdout.splitlines()
        assert "rallrec_damaged_files 0" in figures.stdout
        summary = materialize_dataset("shop", data)
        assert summary.error is None and not any(summary.worked.values())
    damaged = Path(folder, "lake.tar")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert script("restore.sh", folder).returncode == 1


@contextmanager
def started(service: str, ports: dict[str, int], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service as its unit starts it, on free ports."""
    program, *arguments = command_of(service)
    moved = [str(ports.get(word, word)).replace("/var/lib/rallrec/home", str(home)) for word in arguments]
    environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_MODULE_NAME"}
    with (home / f"{service}.log").open("ab") as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name(Path(program).name), *moved],
            stdout=log, stderr=log, env=environment, cwd=REPOSITORY, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print((home / f"{service}.log").read_text(encoding="utf-8")[-3000:])  # shown where the test has failed


def ask(port: int, query: str, **variables: Any) -> dict[str, Any]:
    """The answer of the web server to a GraphQL query; raises OSError while it is not there."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)["data"]
    return found


LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on RepositoryLocation { name repositories { name } } ... on PythonError { message } } } } } }"""
LAUNCH = """mutation($where: JobOrPipelineSelector!, $tags: [ExecutionTag!]!) {
  launchPipelineExecution(executionParams: {
    selector: $where, runConfigData: {}, mode: "default", executionMetadata: {tags: $tags}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@pytest.mark.process
@pytest.mark.slow
@needs_postgres
def test_the_services_work_together_and_one_that_is_killed_is_replaced(
    lake: Path, server: PostgresServer, tmp_path: Path
) -> None:
    home, ports = tmp_path / "home", {name: _free_port() for name in ("4266", "3000")}
    workspace = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
    (home / "workspace.yaml").write_text(workspace.replace("4266", str(ports["4266"])), encoding="utf-8")
    with ExitStack() as stack:
        code = stack.enter_context(started("code", ports, home))
        _wait(lambda: _answers(ports["4266"]), "the code location listens")
        for service in ("daemon", "web"):
            stack.enter_context(started(service, ports, home))
        _wait(lambda: "rallrec_pipeline" in str(_asked(ports["3000"], LOCATIONS)), "the UI knows the code location")
        first = _launch(ports["3000"])
        with dg.DagsterInstance.get() as instance:
            _wait(lambda: _ended(instance, first), "the first run", RUN_S)
            assert _status(instance, first) == "SUCCESS"

            # The code location dies in the midst of a run, with all that it has started.
            with lake_lock(lake, "shop", print):
                second = _launch(ports["3000"])
                _wait(lambda: _status(instance, second) == "STARTED", "the second run waits for the lock", RUN_S)
                os.killpg(code.pid, signal.SIGKILL)
                code.wait()
            code = stack.enter_context(started("code", ports, home))
            _wait(lambda: _status(instance, second) == "FAILURE", "the daemon marks the run", RUN_S)
            _wait(lambda: len(instance.get_runs()) == 3, "the run is tried again", RUN_S)
            third = instance.get_runs()[0]
            assert third.parent_run_id == second
            _wait(lambda: _ended(instance, third.run_id), "the retry", RUN_S)
            assert _status(instance, third.run_id) == "SUCCESS"
    logged = (home / "daemon.log").read_text(encoding="utf-8").splitlines()
    assert any(json.loads(line) for line in logged if line.startswith("{")), "a JSON document a line"


def _launch(port: int) -> str:
    tags = [{"key": "dagster/partition", "value": "shop"}]
    where = {
        "pipelineName": "recommender",
        "repositoryName": "__repository__",
        "repositoryLocationName": "rallrec_pipeline",
        "assetSelection": [{"path": [name]} for name in ("raw_files", "interactions", "items", "users", "rejected_rows")],
        "assetCheckSelection": [],
    }
    found = ask(port, LAUNCH, where=where, tags=tags)["launchPipelineExecution"]
    assert found["__typename"] == "LaunchRunSuccess", found
    run_id: str = found["run"]["runId"]
    return run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def _ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    return _status(instance, run_id) in ("SUCCESS", "FAILURE", "CANCELED")


def _asked(port: int, query: str) -> dict[str, Any] | None:
    try:
        return ask(port, query)
    except OSError:
        return None


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def _wait(look: Any, what: str, limit_s: float = START_S) -> None:
    end = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.5)
