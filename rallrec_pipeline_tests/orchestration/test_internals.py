"""What is not public in Dagster: each symbol by name, with what is relied on, and one module that knows it."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core import log_manager
from dagster._core.errors import raise_execution_interrupts
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.execution import compute_logs
from dagster._core.execution.execute_in_process import core_execute_in_process
from dagster._core.execution.plan import execute_step
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.executor import in_process, multiprocess
from dagster._core.launcher import CheckRunHealthResult, RunLauncher, WorkerStatus
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster_shared.error import SerializableErrorInfo

from rallrec_pipeline.orchestration import internals
from rallrec_pipeline.orchestration.internals import (
    PatientClaims,
    WatchedRunLauncher,
    apart_from_ctrl_c,
    kept_connections,
    wait_patiently,
)

FOLDER = Path(internals.__file__).parent


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_only_one_module_reaches_behind_dagster(file: Path) -> None:
    behind = [name for name in imported(file) if name.startswith(("dagster.", "dagster_"))]
    assert bool(behind) == (file.name == "internals.py"), behind


def imported(file: Path) -> Iterator[str]:
    """Modules that a file names in its imports, also within functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_nothing_of_dagster_is_replaced_when_definitions_load() -> None:
    code = (
        "import rallrec_pipeline.definitions, rallrec_pipeline.cli, rallrec_pipeline.orchestration.jobs\n"
        "from dagster._core.executor import in_process, multiprocess\n"
        "print({m.InstanceConcurrencyContext.__module__.split('.')[0] for m in (in_process, multiprocess)})"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'dagster'}"


def test_the_claims_that_are_replaced_have_the_same_signatures() -> None:
    for name in ("claim", "interval_to_next_pending_claim_check"):
        theirs, ours = (
            inspect.signature(getattr(cls, name), eval_str=False) for cls in (InstanceConcurrencyContext, PatientClaims)
        )
        assert list(theirs.parameters) == list(ours.parameters), name
    assert list(inspect.signature(InstanceConcurrencyContext).parameters) == ["instance", "dagster_run"]
    source = inspect.getsource(InstanceConcurrencyContext)
    assert "self._pending_timeouts[step_key] = time.time() + interval" in source and "self._instance = " in source
    assert "return min([0, *" in source, "the wait without a pause is mended: PatientClaims may be needless"


def test_both_executors_make_their_claims_by_the_name_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for executor in (in_process, multiprocess):
        assert "InstanceConcurrencyContext(" in inspect.getsource(executor)
        monkeypatch.setattr(executor, "InstanceConcurrencyContext", InstanceConcurrencyContext)
    wait_patiently()
    assert in_process.InstanceConcurrencyContext is multiprocess.InstanceConcurrencyContext is PatientClaims  # type: ignore[attr-defined]


def test_the_event_log_makes_its_engines_by_the_name_that_is_replaced(tmp_path: Path) -> None:
    assert "engine = create_engine(\n" in inspect.getsource(sqlite_event_log.SqliteEventLogStorage._connect)
    plain = sqlite_event_log.create_engine
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with kept_connections(), dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert sqlite_event_log.create_engine is not plain
        storage = instance.event_log_storage
        for _ in range(3):
            instance.report_runless_asset_event(dg.AssetMaterialization("kept"))
            assert list((tmp_path / "history" / "runs").glob("index.db-wal")), "the last connection was not closed"
        with storage.index_connection() as one:
            engine = one.engine
        with storage.index_connection() as another:
            assert another.engine is engine
    assert sqlite_event_log.create_engine is plain
    assert not list((tmp_path / "history" / "runs").glob("index.db-wal")), "all that was written lies in the file"
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert len(instance.fetch_materializations(dg.AssetKey("kept"), limit=9).records) == 3


def test_what_copies_the_output_of_a_run_is_started_by_the_name_that_is_replaced(tmp_path: Path) -> None:
    assert "start_new_session" not in inspect.getsource(compute_logs), "apart_from_ctrl_c may be needless"
    (file := tmp_path / "out").touch()
    with apart_from_ctrl_c():
        assert compute_logs.subprocess is not subprocess
        with compute_logs.execute_posix_tail(str(file), None) as copying:
            assert [os.getpgid(process) for process in copying] == list(copying) and os.getpgrp() not in copying
    assert compute_logs.subprocess is subprocess
    for process in copying:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_what_the_launcher_answers_is_still_asked_for() -> None:
    assert issubclass(WatchedRunLauncher, dg.DefaultRunLauncher) and isinstance(RunLauncher._instance, property)
    assert list(inspect.signature(RunLauncher.check_run_worker_health).parameters) == ["self", "run"]
    assert isinstance(RunLauncher.supports_check_run_worker_health, property)
    assert CheckRunHealthResult(WorkerStatus.FAILED, "gone").msg == "gone"
    assert {"FAILED", "RUNNING"} <= set(WorkerStatus.__members__)
    assert not dg.DefaultRunLauncher().supports_check_run_worker_health, "Dagster's own launcher can tell by now"


def test_failures_are_worded_and_outputs_pass_unmaterialized_by_the_names_that_are_relied_on() -> None:
    assert "error_str = _error_str_for_event(event)" in inspect.getsource(log_manager.construct_log_record_message)
    assert {"first_step_failure_event"} <= set(inspect.signature(JobFailureData).parameters)
    assert {"user_failure_data"} <= set(inspect.signature(StepFailureData).parameters)
    said_by = inspect.getsource(execute_step._log_materialization_or_observation_events_for_asset)
    assert "if SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION in output.metadata:\n        return" in said_by
    assert internals.NO_MATERIALIZATION == execute_step.SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION


def test_a_run_can_name_its_repository() -> None:
    assert "remote_job_origin" in inspect.signature(dg.DagsterInstance.create_run_for_job).parameters
    assert "execute_instance.create_run_for_job(" in inspect.getsource(core_execute_in_process)
    workspace = (Path(__file__).parents[2] / "workspace.yaml").read_text(encoding="utf-8")
    assert f"location_name: {internals.LOCATION}\n" in workspace and internals.MODULE in workspace


def test_events_say_why_a_run_ended() -> None:
    assert {"error", "failure_reason"} <= set(inspect.signature(JobFailureData).parameters)
    assert RunFailureReason.UNEXPECTED_TERMINATION.value == "UNEXPECTED_TERMINATION"
    inner = SerializableErrorInfo("why", [], "ValueError")
    outer = SerializableErrorInfo("what", [], "Other", cause=inner)
    assert outer.cause is inner and (inner.message, inner.cls_name) == ("why", "ValueError")


def test_ctrl_c_is_heard_within_a_block() -> None:
    with raise_execution_interrupts(), pytest.raises(dg.DagsterExecutionInterruptedError):
        signal.raise_signal(signal.SIGINT)
