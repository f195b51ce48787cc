"""Sensors and the schedule: without a daemon, and with a real one."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.datasets.catalog import load_catalog
from rallrec_pipeline.lake.checksums import state_of
from rallrec_pipeline.lake.sealed import write_sealed
from rallrec_pipeline.lake.store import put_in_force
from rallrec_pipeline.orchestration.automation import SCHEDULE, build_refresh, build_sensors, sensor_name
from rallrec_pipeline.orchestration.build import FULL_JOB, build_definitions
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.pipeline.raw_state import MADE
from rallrec_pipeline_tests.orchestration.shop import make_shop, write_ratings
from rallrec_pipeline_tests.pipeline.given import store


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with two datasets of the user's own."""
    return make_shop(tmp_path, "shop", "books.2")


def look(lake: Path, name: str, cursor: str | None) -> tuple[list[dg.RunRequest], str | None, str]:
    """(requested runs, new cursor, reason for none) of one evaluation."""
    sensors = build_sensors({name: None}, FULL_JOB, Project(lake=str(lake)))
    found = sensors[0](dg.build_sensor_context(cursor=cursor))
    if isinstance(found, dg.SkipReason):
        return [], cursor, str(found.skip_message)
    assert isinstance(found, dg.SensorResult)
    reason = found.skip_reason.skip_message if isinstance(found.skip_reason, dg.SkipReason) else ""
    return list(found.run_requests or []), found.cursor, str(reason)


def finish(lake: Path, dataset: str) -> None:
    """Records of all stages but the first, as a whole run leaves them."""
    for name in sorted(MADE - {"raw_files"}):
        put_in_force(lake, store(lake, dataset, name), "demo", "run", {})


def test_everything_is_off_until_it_is_turned_on(lake: Path) -> None:
    definitions = build_definitions(project=Project(lake=str(lake)))
    sensors = {sensor.name: sensor for sensor in definitions.sensors or []}
    assert {sensor_name("shop"), sensor_name("books.2"), sensor_name("movielens-100k")} <= set(sensors)
    assert all(sensor.default_status == dg.DefaultSensorStatus.STOPPED for sensor in sensors.values())
    (schedule,) = definitions.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.name == SCHEDULE
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    dg.Definitions.validate_loadable(definitions)


def test_datasets_of_like_names_have_sensors_of_their_own(lake: Path) -> None:
    """Two sensors of one name, and Dagster would load nothing."""
    text = (lake / "catalog" / "shop.toml").read_text(encoding="utf-8")
    names = ("a-b", "a.b", "a_b", "a..b", "a.-b")
    for name in names:
        (lake / "catalog" / f"{name}.toml").write_text(text, encoding="utf-8")
    (lake / "catalog" / "shop...old.toml").write_text(text, encoding="utf-8")
    assert len({sensor_name(name) for name in names}) == len(names)
    definitions = build_definitions(project=Project(lake=str(lake)))
    dg.Definitions.validate_loadable(definitions)


def test_the_sensor_asks_for_its_dataset_once_and_again_only_for_new_content(lake: Path) -> None:
    requests, cursor, _ = look(lake, "shop", None)
    assert [request.partition_key for request in requests] == ["shop"]
    assert look(lake, "shop", cursor)[0] == []
    file = lake / "files" / "shop" / "ratings.csv"
    os.utime(file, (1, 1))
    touched, later, reason = look(lake, "shop", cursor)
    assert not touched and reason == "no content has changed" and later != cursor
    write_ratings(lake, "shop", "u,i,4,10\n")
    changed, newer, _ = look(lake, "shop", later)
    assert [request.partition_key for request in changed] == ["shop"]
    write_ratings(lake, "shop", "u,i,5,10\n")
    back, _, _ = look(lake, "shop", newer)
    assert len(back) == 1 and back[0].run_key not in {requests[0].run_key, changed[0].run_key}


def test_a_first_look_starts_no_run_of_what_the_last_run_left(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of files in the lake, which have no source on this machine."""
    monkeypatch.delenv("DAGSTER_HOME")
    made = materialize_dataset("shop", ["raw_files"], Project(lake=str(lake)))
    assert made.error is None
    assert len(look(lake, "shop", None)[0]) == 1, "of a run that was broken off the rest is asked for"
    finish(lake, "shop")
    requests, cursor, reason = look(lake, "shop", None)
    assert not requests and reason == "all content is as the last run found it"
    write_ratings(lake, "shop", "u,i,4,10\n")
    assert len(look(lake, "shop", cursor)[0]) == len(look(lake, "shop", None)[0]) == 1
    raw = lake / "raw" / "movielens-100k"
    raw.mkdir(parents=True)
    files = [raw / f"ml-100k.{ending}" for ending in ("inter", "item", "user")]
    for file in files:
        file.write_text("x", encoding="utf-8")
    states = {file.relative_to(lake).as_posix(): state_of(file) for file in files}
    record = store(lake, "movielens-100k", "raw_files", files=states)
    write_sealed(record.manifest(lake), asdict(replace(record, files=states)))
    put_in_force(lake, replace(record, files=states), "demo", "run", {})
    finish(lake, "movielens-100k")
    assert look(lake, "movielens-100k", None)[0] == []
    files[0].write_text("y", encoding="utf-8")
    assert len(look(lake, "movielens-100k", None)[0]) == 1


def test_a_change_of_one_dataset_asks_for_no_other(lake: Path) -> None:
    cursors = {name: look(lake, name, None)[1] for name in ("shop", "books.2")}
    write_ratings(lake, "shop", "u,i,1,10\n")
    assert {name: len(look(lake, name, cursor)[0]) for name, cursor in cursors.items()} == {"shop": 1, "books.2": 0}


def test_only_a_file_that_was_touched_is_read_again(lake: Path) -> None:
    _, cursor, _ = look(lake, "shop", None)
    assert cursor is not None
    state = json.loads(cursor)
    forged = {path: [size, changed, "0" * 64] for path, (size, changed, _) in state.items()}
    requests, _, _ = look(lake, "shop", json.dumps(forged))
    assert not requests, "equal size and time: the stored hash is believed"


def test_missing_files_and_a_broken_cursor_are_no_failure(lake: Path) -> None:
    shutil.rmtree(lake / "files" / "shop")
    requests, _, reason = look(lake, "shop", None)
    assert not requests and "is not there: materialize shop once" in reason
    write_ratings(lake, "shop", "u,i,1,10\n")
    assert len(look(lake, "shop", "no json")[0]) == 1 and len(look(lake, "shop", "[1]")[0]) == 1
    (lake / "catalog" / "shop.toml").write_text("title =", encoding="utf-8")
    assert "shop.toml" in look(lake, "shop", None)[2]


def test_a_downloaded_dataset_is_watched_in_the_lake(lake: Path) -> None:
    assert "ml-100k.inter is not there" in look(lake, "movielens-100k", None)[2]
    raw = lake / "raw" / "movielens-100k"
    raw.mkdir(parents=True)
    for ending in ("inter", "item", "user"):
        (raw / f"ml-100k.{ending}").write_text("x", encoding="utf-8")
    assert len(look(lake, "movielens-100k", None)[0]) == 1


def test_the_schedule_refreshes_what_has_been_made_before(lake: Path) -> None:
    settings = lake.parent / "settings.toml"
    settings.write_text('[automation]\nrefresh_cron = "5 4 * * *"\n', encoding="utf-8")
    project = Project(lake=str(lake), settings_file=str(settings))
    schedule = build_refresh(load_catalog(lake, pytest.fail), FULL_JOB, project)
    assert schedule.cron_schedule == "5 4 * * *"
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    skipped = schedule(dg.build_schedule_context(scheduled_execution_time=moment))
    assert isinstance(skipped, dg.SkipReason)
    (lake / "results" / "shop").mkdir(parents=True)
    requests = schedule(dg.build_schedule_context(scheduled_execution_time=moment))
    assert isinstance(requests, list)
    assert [(r.partition_key, r.run_key) for r in requests] == [("shop", "2026-01-02T00:00:00+00:00:shop")]
