"""Everything of Dagster that is not public: what is imported from it, and the two names that are replaced.

No other module reaches behind `dagster` itself. A test names each symbol with what is relied on, and
docs/dagster-upstream.md says what Dagster would have to offer for this file to go.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.errors import raise_execution_interrupts
from dagster._core.events import RunFailureReason
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_shared.error import SerializableErrorInfo

from rallrec_pipeline.orchestration.recovery import is_dead, process_of, recover_runs

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = [
    "PatientClaims",
    "RunFailureReason",
    "SerializableErrorInfo",
    "WatchedRunLauncher",
    "WorkerStatus",
    "kept_connections",
    "wait_patiently",
]

LONGEST_NAP_S = 1.0
LOOK_EVERY_S = 5.0  # for a holder that was killed meanwhile


def wait_patiently() -> None:
    """Make the executors of this process wait for pools as `PatientClaims` do; called where a run starts."""
    from dagster._core.executor import in_process, multiprocess

    for executor in (in_process, multiprocess):
        executor.InstanceConcurrencyContext = PatientClaims  # type: ignore[attr-defined]


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
