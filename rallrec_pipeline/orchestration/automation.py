"""Sensors and the schedule that keep datasets fresh. All are off until they are turned on in the UI.

Both start the whole job of a dataset: stages whose inputs have not changed do no work, and a blocking check that fails
holds back everything after it, in an automated run as in any other. The condition starts single stages instead.
"""

import json
import time
from collections.abc import Mapping

import dagster as dg

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.raw_files import watched_files
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake.store import recorded_datasets
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.pipeline.raw_state import is_as_made
from rallrec_pipeline.sources.state import State, contents, file_state

SCHEDULE = "refresh_all"
IN_SENSOR_NAMES = {"-": "_", ".": "_DOT_", "_": "_LINE_"}


def new_inputs() -> dg.AutomationCondition:  # type: ignore[type-arg]
    """A stage runs when the content of an input, or its own code, has changed; one layer of the graph at a look.

    What was only made again with the same content starts nothing. A failed blocking check of an input holds the stage
    back: Dagster itself does so within one run only.
    """
    condition = dg.AutomationCondition
    # Without `will_be_requested`: an input that is about to run may turn out unchanged.
    changed = condition.any_deps_match(condition.data_version_changed()) | condition.code_version_changed()
    due: dg.AutomationCondition = condition.newly_missing() | changed  # type: ignore[type-arg]
    blocked = condition.any_deps_missing() | condition.any_deps_in_progress() | condition.in_progress()
    return due.since_last_handled() & ~blocked & condition.all_deps_blocking_checks_passed()


def build_sensors(datasets: Mapping[str, object], job: str, project: Project) -> list[dg.SensorDefinition]:
    """One sensor for each dataset."""
    interval_s = project.settings().automation.sensor_interval_s
    return [_sensor(name, job, project, interval_s) for name in sorted(datasets)]


def sensor_name(dataset: str) -> str:
    """Name of the sensor of `dataset`; Dagster allows letters, digits and underscores only.

    No two datasets share one, or Dagster would load none: a dataset's own name has no upper case.
    """
    return "raw_files_of_" + "".join(IN_SENSOR_NAMES.get(c, c) for c in dataset)


def build_refresh(datasets: Mapping[str, object], job: str, project: Project) -> dg.ScheduleDefinition:
    """The schedule that brings every dataset up to date that has been made before."""

    @dg.schedule(
        name=SCHEDULE,
        job_name=job,
        cron_schedule=project.settings().automation.refresh_cron,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Brings every dataset that has been made before up to date.",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        lake = project.root()
        made = sorted(set(datasets).intersection(recorded_datasets(lake)))
        moment = context.scheduled_execution_time.isoformat()
        requests = [dg.RunRequest(partition_key=name, run_key=f"{moment}:{name}") for name in made]
        return requests or dg.SkipReason(f"no dataset has been made in {lake} yet")

    return refresh


def _sensor(dataset: str, job_name: str, project: Project, interval_s: int) -> dg.SensorDefinition:
    @dg.sensor(
        name=sensor_name(dataset),
        job_name=job_name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Starts a run of {dataset} when the content of its raw files has changed.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        before = _parse(context.cursor)
        try:
            lake = project.root()
            spec = get_dataset(dataset, lake)
            state = file_state(watched_files(spec, lake), before)
        except FileNotFoundError as error:
            return dg.SkipReason(f"{error.filename} is not there: materialize {dataset} once, or put it there")
        except (ConfigError, OSError) as error:
            return dg.SkipReason(str(error))
        cursor = json.dumps(state)
        if contents(state) == contents(before):
            return dg.SensorResult(skip_reason=dg.SkipReason("no content has changed"), cursor=cursor)
        if not before and is_as_made(spec, lake, state):
            return dg.SensorResult(skip_reason=dg.SkipReason("all content is as the last run found it"), cursor=cursor)
        # The time makes a file that goes back to an earlier content a request of its own.
        request = dg.RunRequest(partition_key=dataset, run_key=f"{dataset}:{time.time_ns()}")
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return watch


def _parse(cursor: str | None) -> State:
    try:
        return {
            path: (int(size), int(changed), str(sha))
            for path, (size, changed, sha) in json.loads(cursor or "{}").items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}  # an unreadable cursor is as good as none
