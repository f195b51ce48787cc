"""Runs that were killed are marked as failed and block no later one; whoever waits for a live one says so."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock

from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.orchestration.build import LLM_POOL
from rallrec_pipeline.orchestration.internals import PatientClaims, WorkerStatus
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.orchestration.recovery import hold_run, is_dead, recover_runs
from rallrec_pipeline.settings import ROLES
from rallrec_pipeline_tests.pipeline.tiny import make_world, rallrec, read_until

pytestmark = pytest.mark.process

AT_THE_LLM = "to release _llm"  # said by a stage that has the pool's slot


@dg.job
def nothing() -> None:
    """Has no step."""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_world(tmp_path, monkeypatch, ("shop", "books"))


def only_run(instance: dg.DagsterInstance, dataset: str) -> dg.DagsterRun:
    (run,) = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": dataset}))
    return run


def slots(instance: dg.DagsterInstance) -> set[str]:
    """Ids of the runs that hold or wait for the LLM's slot."""
    info = instance.event_log_storage.get_concurrency_info(LLM_POOL)
    return info.active_run_ids | info.pending_run_ids | info.assigned_run_ids


def cpu_seconds(process: subprocess.Popen[str]) -> int:
    said = subprocess.run(["ps", "-o", "time=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
    hours, minutes, seconds = said.stdout.strip().split("-")[-1].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(float(seconds))


def test_a_run_that_was_killed_at_the_llm_does_not_block_the_next(lake: Path) -> None:
    with lake_lock(lake, LLM, print), rallrec("run", "shop") as process:
        read_until(process, AT_THE_LLM)
    with dg.DagsterInstance.get() as instance:
        killed = only_run(instance, "shop")
        assert killed.status == dg.DagsterRunStatus.STARTED and slots(instance) == {killed.run_id}
        launcher = instance.run_launcher
        assert launcher.supports_check_run_worker_health
        assert launcher.check_run_worker_health(killed).status == WorkerStatus.FAILED
        assert f"process {process.pid} on " in str(launcher.check_run_worker_health(killed).msg)
        with rallrec("run", "shop") as again:  # not in this process: it would hang, not fail
            said = read_until(again, "evaluation_report: done")
            assert again.wait(60) == 0
        cut_short = f"run {killed.run_id[:8]} was cut short: process {process.pid} on "
        assert sum(cut_short in line for line in said) == 1
        assert _run(instance, killed.run_id).status == dg.DagsterRunStatus.FAILURE and slots(instance) == set()
        (failure,) = instance.all_logs(killed.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert failure.message.startswith(cut_short)
        (record,) = Path(instance.storage_directory(), "run_locks").glob("*.json")
        assert _run(instance, record.stem).status == dg.DagsterRunStatus.SUCCESS


def test_a_run_that_waits_says_for_whom_sleeps_and_goes_on_when_the_other_is_killed(lake: Path) -> None:
    stages = ["raw_files", "interactions", "items", "users", "rejected_rows", "core_interactions", "core_items"]
    data = ("--select", ",".join([*stages, "title_embeddings"]))
    materialize_dataset("books", ROLES)
    with lake_lock(lake, LLM, print), rallrec("run", "shop", *data) as holder, dg.DagsterInstance.get() as instance:
        read_until(holder, AT_THE_LLM)
        held = only_run(instance, "shop").run_id
        assert instance.run_launcher.check_run_worker_health(only_run(instance, "shop")).status == WorkerStatus.RUNNING
        waits = f"waiting for run {held[:8]} (process {holder.pid} on "
        with rallrec("run", "books", *data) as interrupted:
            assert f"to release the pool {LLM_POOL}" in read_until(interrupted, waits)[-1]
            before = cpu_seconds(interrupted)
            time.sleep(4)
            assert cpu_seconds(interrupted) - before <= 1
            interrupted.send_signal(signal.SIGINT)
            assert "rallrec: interrupted" in read_until(interrupted, "rallrec:")[-1]
            assert interrupted.wait(60) == 130 and slots(instance) == {held}
        with rallrec("run", "books", *data) as patient:
            read_until(patient, waits)
            holder.kill()
            said = read_until(patient, AT_THE_LLM)
            assert any(line.startswith(f"run {held[:8]} was cut short: process {holder.pid} on ") for line in said)


def test_only_runs_of_this_host_that_are_known_to_be_dead_are_touched(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        folder = Path(instance.storage_directory()) / "run_locks"
        runs = {name: _started(instance) for name in ("own", "unknown", "foreign", "alive", "broken", "dead")}
        hold_run(instance, runs["own"], pytest.fail)
        host = read_json(folder / f"{runs['own']}.json")["host"]
        for name in ("foreign", "alive", "dead"):
            write_json(folder / f"{runs[name]}.json", {"pid": 7, "host": "elsewhere" if name == "foreign" else host})
        (folder / f"{runs['broken']}.json").write_text("{", encoding="utf-8")
        said: list[str] = []
        with FileLock(folder / f"{runs['alive']}.lock"):
            assert {name for name, run_id in runs.items() if is_dead(instance, run_id)} == {"dead"}
            recover_runs(instance, said.append)
        assert said == [f"run {runs['dead'][:8]} was cut short: process 7 on {host} is gone. It is marked as failed."]
        states = {name: _run(instance, run_id).status for name, run_id in runs.items()}
        assert {name for name, status in states.items() if status != dg.DagsterRunStatus.STARTED} == {"dead"}
        assert not list(folder.glob(f"{runs['dead']}.*"))


def test_a_run_that_cannot_be_locked_goes_on_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        storage = Path(instance.storage_directory())
        storage.mkdir(exist_ok=True)
        (storage / "run_locks").write_text("a file where the folder should be")
        said: list[str] = []
        hold_run(instance, _started(instance), said.append)
        assert len(said) == 1 and "terminate it in the UI" in said[0]


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[tuple[dg.DagsterInstance, str]]:
    """An instance, and the id of a run that holds the LLM's slot."""
    text = "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
    (tmp_path / "dagster.yaml").write_text(text, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run_id = _started(instance)
        instance.event_log_storage.initialize_concurrency_limit_to_default(LLM_POOL)
        assert instance.event_log_storage.claim_concurrency_slot(LLM_POOL, run_id, "step").is_claimed
        yield instance, run_id


def test_a_run_that_is_over_gives_back_its_slot_and_its_lock(pooled: tuple[dg.DagsterInstance, str]) -> None:
    instance, run_id = pooled
    hold_run(instance, run_id, pytest.fail)
    recover_runs(instance, print)
    assert slots(instance) == {run_id}
    instance.report_run_canceled(_run(instance, run_id))
    recover_runs(instance, print)
    assert slots(instance) == set() and os.listdir(Path(instance.storage_directory()) / "run_locks") == []
    assert _run(instance, run_id).status == dg.DagsterRunStatus.CANCELED


def test_a_blocked_claim_sleeps_and_speaks_once(
    pooled: tuple[dg.DagsterInstance, str], capsys: pytest.CaptureFixture[str]
) -> None:
    instance, run_id = pooled
    with PatientClaims(instance, _run(instance, _started(instance))) as claims:
        for _ in range(3):
            assert not claims.claim(LLM_POOL, "step")
        assert 0 < claims.interval_to_next_pending_claim_check() <= 1
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        time.sleep(1.5)
        assert claims.claim(LLM_POOL, "step")
    assert capsys.readouterr().err == (
        f"waiting for run {run_id[:8]} (an unknown process) to release the pool {LLM_POOL}\n"
    )


def _started(instance: dg.DagsterInstance) -> str:
    return instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED).run_id


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run
