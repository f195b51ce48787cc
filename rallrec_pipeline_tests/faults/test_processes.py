"""`kill -9` of the process of a step, and of the daemon; that of an engine's actor is in test_ray_stage.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from rallrec_pipeline.lake.leftovers import is_temporary
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.automation import sensor_name
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.status.verify import verify_lake
from rallrec_pipeline_tests.orchestration.services import DATA, started, wait_for
from rallrec_pipeline_tests.orchestration.shop import make_instance, make_shop
from rallrec_pipeline_tests.orchestration.test_daemon import DAEMON, switch
from rallrec_pipeline_tests.orchestration.test_executors import full_job
from rallrec_pipeline_tests.pipeline.tiny import make_world

pytestmark = [pytest.mark.process, pytest.mark.slow]


def kill_child_that_waits(lake: Path) -> None:
    """Kill the process of the step that waits for the lock of `shop`, which is held here for it."""
    before = set(psutil.Process().children(recursive=True))
    with lake_lock(lake, "shop", print):

        def steps() -> list[psutil.Process]:
            found = set(psutil.Process().children(recursive=True)) - before
            return [one for one in found if "spawn_main" in " ".join(one.cmdline())]

        wait_for(steps, "the process of a step")
        time.sleep(6)  # it loads the definitions, then waits
        for one in steps():
            one.kill()


def test_a_step_whose_process_is_killed_fails_its_run_and_the_next_one_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, settings = make_shop(tmp_path, "shop"), tmp_path / "settings.toml"
    settings.write_text('[automation]\nexecutor = "multiprocess"\n', encoding="utf-8")
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    monkeypatch.setenv("DAGSTER_HOME", str(make_instance(tmp_path)))
    chosen, tags = [dg.AssetKey(name) for name in DATA], {"dagster/partition": "shop"}
    with dg.DagsterInstance.get() as instance:
        killer = threading.Thread(target=kill_child_that_waits, args=(lake,))
        killer.start()
        broken = dg.execute_job(dg.reconstructable(full_job), instance, tags=tags, asset_selection=chosen)
        killer.join()
        assert not broken.success
        messages = [event.message for event in instance.all_logs(broken.run_id)]
        assert any("SIGKILL" in message or "signal 9" in message for message in messages), messages[-5:]
    assert not verify_lake(lake, "shop", "demo").damages
    healed = materialize_dataset("shop", DATA)
    assert healed.error is None and set(healed.worked) == set(DATA)
    assert not [path for path in lake.rglob(".*") if is_temporary(path.name)]


def test_a_daemon_that_is_killed_is_replaced_and_no_run_is_lost_or_started_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    lake = make_world(tmp_path, monkeypatch, ("shop",), **quick)
    with dg.DagsterInstance.get() as instance:
        sensor = sensor_name("shop")
        with started(tmp_path / "daemon.log", *DAEMON) as first, lake_lock(lake, "shop", print):
            switch("sensor", "start", sensor)
            wait_for(lambda: [run.status.value for run in instance.get_runs()] == ["STARTED"], "the sensor's run", 300)
            time.sleep(3)
            os.killpg(first.pid, signal.SIGKILL)  # with the code server, and the run that this has started
        (dead,) = instance.get_runs()
        with started(tmp_path / "daemon.log", *DAEMON):
            wait_for(
                lambda: instance.get_runs()[-1].status.value == "FAILURE", "the run that was killed is marked", 300
            )
            (failure,) = instance.all_logs(dead.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            assert "is gone" in failure.message or "terminated" in failure.message
            time.sleep(5)
            assert len(instance.get_runs()) == 1, "the same content starts nothing twice"
    healed = materialize_dataset("shop")
    assert healed.error is None and all(healed.worked.values())
    assert not verify_lake(lake, "shop", "demo").damages
    assert not [path for path in lake.rglob(".*") if is_temporary(path.name)]
