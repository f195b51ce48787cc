"""A real daemon, as `make ui` starts one: sensors, the schedule, blocking checks and runs that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.orchestration.automation import SCHEDULE, sensor_name
from rallrec_pipeline.orchestration.build import LLM_POOL
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.settings import ROLES
from rallrec_pipeline_tests.orchestration.services import START_S, started, wait_for
from rallrec_pipeline_tests.pipeline.tiny import make_world, rallrec, ratings_file, read_until

pytestmark = pytest.mark.process

MODULE = ("-m", "rallrec_pipeline.definitions")
DAEMON = ("dagster-daemon", "run", *MODULE)
RUN_S = 600  # for a machine that has much else to do
GOOD, TORN = "shop", "torn"  # the second has more unusable ratings than its check allows
EVERYTHING = {stage.name for stage in GRAPH}
UNCHECKED = {"raw_files", "interactions", "items", "users", "rejected_rows", *ROLES}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with two datasets, and the instance that the daemon and this test share."""
    quick = {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    root = make_world(tmp_path, monkeypatch, (GOOD, TORN), **quick)
    with ratings_file(root, TORN).open("a", encoding="utf-8") as file:
        file.write("u1,i1,five,1\n" * 20)
    return root


@pytest.fixture
def instance(lake: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def killed(lake: Path) -> None:
    """A run of the command line that was killed while it held the LLM's slot."""
    with lake_lock(lake, LLM, print), rallrec("run", GOOD) as process:
        read_until(process, "to release _llm")


@pytest.fixture
def daemon(lake: Path, killed: None, tmp_path: Path) -> Iterator[None]:
    """The daemon in a session of its own, of which nothing is left at the end."""
    with started(tmp_path / "daemon.log", *DAEMON) as process:
        yield
        process.terminate()
        assert process.wait(60) is not None


def switch(kind: str, action: str, name: str) -> None:
    """Turn sensors or a schedule on or off, as a user does without the UI."""
    command = [sys.executable, "-m", "dagster", kind, action, name, *MODULE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S)
    assert done.returncode == 0, done.stdout + done.stderr


def runs_of(instance: dg.DagsterInstance, origin: str, name: str) -> list[dg.DagsterRun]:
    """Runs that the sensor or the schedule `name` has started, oldest first."""
    return list(instance.get_runs(dg.RunsFilter(tags={f"dagster/{origin}_name": name}), ascending=True))


def finished(instance: dg.DagsterInstance, origin: str, name: str, number: int) -> dg.DagsterRun:
    """The run `number` that was started by it, once it has ended; there is none after it."""

    def look() -> list[dg.DagsterRun]:
        runs = runs_of(instance, origin, name)
        return runs if len(runs) >= number and runs[-1].is_finished else []

    runs = wait_for(look, f"run {number} of {name}", RUN_S)
    assert len(runs) == number
    return runs[-1]


def worked(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, bool]:
    """Stages that the run brought up to date, and whether each did work."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}
    events = instance.all_logs(run.run_id, of_type=kinds)
    told = [event.asset_materialization or event.asset_observation for event in events]
    return {one.asset_key.path[-1]: bool(one.metadata["worked"].value) for one in told if one is not None}


def refused(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """Checks that did not hold."""
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    results = [event.dagster_event.asset_check_evaluation_data for event in events if event.dagster_event]
    return [result.check_name for result in results if not result.passed]


def ticks(instance: dg.DagsterInstance, name: str) -> list[Any]:
    """Looks of a sensor, newest first."""
    (state,) = [state for state in instance.all_instigator_state() if state.instigator_name == name]
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id))


def skipped_after(instance: dg.DagsterInstance, name: str, moment: float) -> list[Any]:
    found = [tick for tick in ticks(instance, name) if tick.timestamp > moment]
    return [tick for tick in found if tick.status.value == "SKIPPED"]


def test_a_daemon_keeps_datasets_fresh(lake: Path, daemon: None, instance: dg.DagsterInstance) -> None:
    def is_freed() -> bool:
        slots = instance.event_log_storage.get_concurrency_info(LLM_POOL)
        return not slots.active_run_ids

    # The run that was killed: before any other run could recover it, the daemon does.
    (dead,) = instance.get_runs()
    wait_for(is_freed, "the slot of the killed run is free")
    reloaded = instance.get_run_by_id(dead.run_id)
    assert reloaded is not None and reloaded.status == dg.DagsterRunStatus.FAILURE
    (failure,) = instance.all_logs(dead.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "is gone" in failure.message

    # The first look at a dataset starts one run of it, and a blocking check holds back what comes after it.
    good, torn = sensor_name(GOOD), sensor_name(TORN)
    switch("sensor", "start", "--start-all")  # of the built-in datasets there are no files
    first = finished(instance, "sensor", good, 1)
    assert first.tags["dagster/partition"] == GOOD and first.status == dg.DagsterRunStatus.SUCCESS
    made = worked(instance, first)
    assert set(made) == EVERYTHING and made["predictions"] and made["evaluation_report"]
    spoilt = finished(instance, "sensor", torn, 1)
    assert spoilt.tags["dagster/partition"] == TORN and spoilt.status == dg.DagsterRunStatus.FAILURE
    assert refused(instance, spoilt) == ["few_rejected_rows"] and set(worked(instance, spoilt)) == UNCHECKED

    # A file that was only touched starts nothing.
    moment = time.time()
    for name in (GOOD, TORN):
        os.utime(ratings_file(lake, name))
    for name in (good, torn):
        looked = wait_for(lambda name=name: skipped_after(instance, name, moment)[1:], f"two looks of {name}")
        assert {tick.skip_reason for tick in looked} == {"no content has changed"}
    assert len(instance.get_runs()) == 3

    # A rating that has changed starts one run of its dataset, and only what depends on ratings does work.
    text = ratings_file(lake, GOOD).read_text(encoding="utf-8")
    head, row, rest = text.split("\n", 2)
    user, item, rating, moment_of_rating = row.split(",")
    changed = ",".join((user, item, "1" if rating == "5" else "5", moment_of_rating))
    ratings_file(lake, GOOD).write_text("\n".join((head, changed, rest)), encoding="utf-8")
    second = finished(instance, "sensor", good, 2)
    assert second.tags["dagster/partition"] == GOOD and second.status == dg.DagsterRunStatus.SUCCESS
    made = worked(instance, second)
    assert made["interactions"] and made["predictions"] and made["evaluation_report"]
    assert not any(made[name] for name in (*ROLES, "item_descriptions", "title_embeddings"))
    assert len(runs_of(instance, "sensor", torn)) == 1 and len(instance.get_runs()) == 4

    # The schedule starts a run of each dataset that was made before: no work where nothing has changed.
    switch("schedule", "start", SCHEDULE)
    wait_for(lambda: len(runs_of(instance, "schedule", SCHEDULE)) >= 2, "the schedule has fired")
    switch("schedule", "stop", SCHEDULE)
    wait_for(lambda: all(run.is_finished for run in instance.get_runs()), "the runs of the schedule", RUN_S)
    by_dataset = {run.tags["dagster/partition"]: run for run in runs_of(instance, "schedule", SCHEDULE)}
    assert set(by_dataset) == {GOOD, TORN}
    again = worked(instance, by_dataset[GOOD])
    assert by_dataset[GOOD].status == dg.DagsterRunStatus.SUCCESS
    assert set(again) == EVERYTHING and not any(again.values())
    assert by_dataset[TORN].status == dg.DagsterRunStatus.FAILURE
    assert refused(instance, by_dataset[TORN]) == ["few_rejected_rows"]
    assert set(worked(instance, by_dataset[TORN])) == UNCHECKED
    assert len(runs_of(instance, "sensor", good)) == 2 and len(runs_of(instance, "sensor", torn)) == 1
