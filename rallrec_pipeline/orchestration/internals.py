"""Everything of Dagster that is not public: what is imported from it, and the names that are replaced.

No other module reaches behind `dagster` itself. A test names each symbol with what is relied on, and
docs/dagster-upstream.md says what Dagster would have to offer for this file to go.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION as NO_MATERIALIZATION
from dagster._core.errors import raise_execution_interrupts
from dagster._core.events import RunFailureReason
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.log_manager import _error_str_for_event
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from rallrec_pipeline.orchestration.recovery import is_dead, process_of, recover_runs

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = [
    "NO_MATERIALIZATION",
    "PatientClaims",
    "RunFailureReason",
    "SerializableErrorInfo",
    "WatchedRunLauncher",
    "WorkerStatus",
    "apart_from_ctrl_c",
    "create_runs_of_repository",
    "kept_connections",
    "log_failures_in_one_line",
    "wait_patiently",
]

LOCATION, MODULE, REPOSITORY = "rallrec_pipeline", "rallrec_pipeline.definitions", "__repository__"
"""The code location as pyproject.toml and workspace.yaml name it, and what Dagster calls a module's only repository."""
LONGEST_NAP_S = 1.0
LOOK_EVERY_S = 5.0  # for a holder that was killed meanwhile


def wait_patiently() -> None:
    """Make the executors of this process wait for pools as `PatientClaims` do; called where a run starts."""
    from dagster._core.executor import in_process, multiprocess

    for executor in (in_process, multiprocess):
        executor.InstanceConcurrencyContext = PatientClaims  # type: ignore[attr-defined]


def create_runs_of_repository(instance: dg.DagsterInstance, job: str) -> None:
    """Let runs of `job` that are created by `instance` name the repository, so that its pages in the UI show them.

    `execute_in_process` names none: the landing page, Jobs and Deployment would know nothing of such a run.
    """
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY), job)
    instance.create_run_for_job = partial(instance.create_run_for_job, remote_job_origin=origin)  # type: ignore[method-assign]


def log_failures_in_one_line() -> None:
    """Let the logs of runs in this process say of a stage's own failure its one line, without Dagster's tracebacks."""
    from dagster._core import log_manager

    log_manager._error_str_for_event = _one_line


def _one_line(event: dg.DagsterEvent) -> str | None:
    """What follows the message of an event: of a step's failure and of that of its run the stage's own words."""
    first = getattr(event.event_specific_data, "first_step_failure_event", None)
    told = getattr((first or event).event_specific_data, "user_failure_data", None)
    return f" {told.description}" if told is not None and told.description else _error_str_for_event(event)


@contextmanager
def kept_connections() -> Iterator[None]:
    """Within it the event log on SQLite has one engine for each of its files, and a connection that stays open.

    Dagster 1.13 makes an engine for each event, which compiles each statement anew, and closes its only connection,
    for which SQLite writes its journal through to the disk: a third of a run that finds all stages up to date.
    """
    from dagster._core.storage.event_log.sqlite import sqlite_event_log as module

    sqlite_event_log: Any = module
    plain = sqlite_event_log.create_engine
    engines: dict[str, Engine] = {}
    held: set[str] = set()
    with ExitStack() as connections:

        def create_engine(address: str, **options: Any) -> Engine:
            if address not in engines:
                options["connect_args"] = {**options.get("connect_args", {}), "check_same_thread": False}
                engines[address] = plain(address, **options)
            elif address not in held:  # by now its tables are there
                held.add(address)
                connection = connections.enter_context(engines[address].connect())
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # joins those that use the journal
                connection.rollback()
            return engines[address]

        sqlite_event_log.create_engine = create_engine
        try:
            yield
        finally:
            sqlite_event_log.create_engine = plain


@contextmanager
def apart_from_ctrl_c() -> Iterator[None]:
    """Within it the processes that copy a run's output to the terminal do not hear Ctrl-C, which is the run's to end.

    Dagster 1.13 starts them in the terminal's own group: each of the watchers answers Ctrl-C with a traceback. They end
    with the run all the same, also where it is killed.
    """
    from dagster._core.execution import compute_logs as module

    compute_logs: Any = module
    plain, apart = compute_logs.subprocess, partial(subprocess.Popen, start_new_session=True)
    compute_logs.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": apart})
    try:
        yield
    finally:
        compute_logs.subprocess = plain


class PatientClaims(InstanceConcurrencyContext):
    """Claims of one run; while one is blocked it sleeps, says once for whom, and looks whether that run is alive.

    Dagster 1.13 waits in a loop without a pause (its `interval_to_next_pending_claim_check` takes the minimum with 0):
    a whole core, which the run that has the slot could use, and not a word. Nor does it hear Ctrl-C meanwhile, or ask
    whether the run that has the slot is still alive. Nothing else differs.
    """

    _looked = -math.inf
    _said = False

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Whether the step has a slot of the pool now. Raises DagsterExecutionInterruptedError after Ctrl-C."""
        claimed = super().claim(concurrency_key, step_key, step_priority)
        if not claimed:
            with raise_execution_interrupts():
                self._look(concurrency_key)
        return claimed

    def interval_to_next_pending_claim_check(self) -> float:
        """Seconds to sleep until a blocked claim may be tried again; short, so that Ctrl-C is heard."""
        next_try = min(self._pending_timeouts.values(), default=0.0)
        return min(LONGEST_NAP_S, max(0.0, next_try - time.time()))

    def _look(self, pool: str) -> None:
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        recover_runs(self._instance, _say)
        holders = self._instance.event_log_storage.get_concurrency_info(pool).active_run_ids
        if holders and not self._said:
            self._said = True
            names = " and ".join(f"{run_id[:8]} ({process_of(self._instance, run_id)})" for run_id in sorted(holders))
            _say(f"waiting for run {names} to release the pool {pool}")


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """The run launcher of `dagster.yaml`: Dagster's own, which can also tell whether the process of a run is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask this launcher about a run."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED when the process is known to be gone; of what is not known the run counts as alive."""
        if is_dead(self._instance, run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"{process_of(self._instance, run.run_id)} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
