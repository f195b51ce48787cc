"""Code location, daemon and webserver as the units of docs/deploy start them, and how to ask for runs."""

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import pytest

from rallrec_pipeline_tests.orchestration.postgres import PostgresServer
from rallrec_pipeline_tests.orchestration.shop import make_shop
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

DEPLOY = REPOSITORY / "docs" / "deploy"
SERVICES = ("code", "daemon", "web")
HOME, CODE_PORT, WEB_PORT = "/var/lib/rallrec/home", "4266", "3000"
"""As the units say."""
DATA = ("raw_files", "interactions", "items", "users", "rejected_rows")
START_S, RUN_S = 180, 300
T = TypeVar("T")
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
  ... on RepositoryLocation { name } ... on PythonError { message } } } } } }"""
LAUNCH = """mutation($where: JobOrPipelineSelector!, $tags: [ExecutionTag!]!) {
  launchPipelineExecution(executionParams: {
    selector: $where, runConfigData: {}, mode: "default", executionMetadata: {tags: $tags}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def set_up(root: Path, server: PostgresServer, patch: pytest.MonkeyPatch) -> Path:
    """A lake with the dataset `shop`, and a home as docs/deploy says; the environment names both."""
    lake, home = make_shop(root, "shop"), root / "home"
    home.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    for name, value in (("RALLREC_LAKE", lake), ("DAGSTER_HOME", home), ("RALLREC_POSTGRES_URL", server.url)):
        patch.setenv(name, str(value))
    patch.delenv("RALLREC_SETTINGS", raising=False)
    return lake


def command_of(service: str) -> list[str]:
    """What the unit of a service starts."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]
    unit.read_string((DEPLOY / "systemd" / f"rallrec-{service}.service").read_text(encoding="utf-8"))
    return shlex.split(unit["Service"]["ExecStart"])


def start(log: Path, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A program of Dagster in a session of its own, in the repository; what it says is added to `log`."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [Path(sys.executable).with_name(program), *arguments],
            stdout=stream,
            stderr=stream,
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if name != "DAGSTER_MODULE_NAME"},
            start_new_session=True,
            # A shell that starts the tests in the background makes them ignore Ctrl-C, and Dagster SIGTERM with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


@contextmanager
def started(log: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """As `start`, until the end of the block; then nothing is left of it and of what it has started."""
    process = start(log, program, *arguments)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(log.read_text(encoding="utf-8")[-8000:])  # pytest shows it when the test has failed


class Web:
    """The webserver at a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def is_up(self) -> bool:
        """Whether it knows the code location."""
        try:
            return "'rallrec_pipeline'" in str(self.ask(LOCATIONS))
        except OSError:
            return False

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer to a GraphQL query; raises OSError while the server is not there."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
        return found


class Services(Web):
    """The three services on free ports; `processes` are those that were started last."""

    def __init__(self, home: Path) -> None:
        self.home, self.ports = home, {port: free_port() for port in (CODE_PORT, WEB_PORT)}
        super().__init__(self.ports[WEB_PORT])
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        workspace = (DEPLOY / "workspace.yaml").read_text(encoding="utf-8")
        (home / "workspace.yaml").write_text(workspace.replace(CODE_PORT, str(self.ports[CODE_PORT])), encoding="utf-8")

    def start(self, service: str) -> None:
        """Start one as its unit does."""
        program, *arguments = command_of(service)
        moved = [str(self.ports.get(word, word)).replace(HOME, str(self.home)) for word in arguments]
        self.processes[service] = start(self.home / f"{service}.log", Path(program).name, *moved)

    def kill(self, service: str) -> None:
        """`kill -9` for one and all that it has started."""
        os.killpg(self.processes[service].pid, signal.SIGKILL)
        self.processes[service].wait()

    def stop(self) -> None:
        """Stop all, and whatever does not hear."""
        for process in self.processes.values():
            process.terminate()
        for service, process in self.processes.items():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill(service)
            print((self.home / f"{service}.log").read_text(encoding="utf-8")[-3000:])  # shown where a test has failed

    def code_listens(self) -> bool:
        """Whether the code location takes connections."""
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.ports[CODE_PORT])) == 0

    def launch(self, names: Sequence[str] = DATA) -> str:
        """Start a run of these stages of `shop`, as the button of the UI does; returns its id."""
        where = {
            "pipelineName": "recommender",
            "repositoryName": "__repository__",
            "repositoryLocationName": "rallrec_pipeline",
            "assetSelection": [{"path": [name]} for name in names],
            "assetCheckSelection": [],
        }
        tags = [{"key": "dagster/partition", "value": "shop"}]
        found = self.ask(LAUNCH, where=where, tags=tags)["launchPipelineExecution"]
        assert found["__typename"] == "LaunchRunSuccess", found
        run_id: str = found["run"]["runId"]
        return run_id


@contextmanager
def services(home: Path) -> Iterator[Services]:
    """All three, until the UI knows the code location; nothing of them is left at the end."""
    with ExitStack() as stack:
        found = Services(home)
        stack.callback(found.stop)
        found.start("code")
        wait_for(found.code_listens, "the code location listens")
        found.start("daemon")
        found.start("web")
        wait_for(found.is_up, "the UI knows the code location")
        yield found


def status_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """The state of a run."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status.value


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run has ended, however."""
    return status_of(instance, run_id) in ("SUCCESS", "FAILURE", "CANCELED")


def wait_for(look: Callable[[], T], what: str, limit_s: float = START_S) -> T:
    """What `look` finds, as soon as that is true."""
    end = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.5)
    return found


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
