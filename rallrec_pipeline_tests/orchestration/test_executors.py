"""Both executors run stages as a daemon would start them; a run of several processes is never taken for dead."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.orchestration.build import FULL_JOB, build_definitions
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.orchestration.recovery import is_dead
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline_tests.orchestration.shop import make_instance, make_shop

pytestmark = pytest.mark.process


def full_job() -> dg.JobDefinition:
    """As the processes of steps build it anew."""
    return build_definitions().resolve_job_def(FULL_JOB)


@pytest.mark.parametrize(("executor", "processes"), [("in_process", 1), ("multiprocess", 3)])
def test_an_executor_runs_the_chosen_stages(
    executor: str, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, settings = make_shop(tmp_path, "shop"), tmp_path / "settings.toml"
    settings.write_text(f'[automation]\nexecutor = "{executor}"\n', encoding="utf-8")
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))
    with dg.DagsterInstance.from_config(str(make_instance(tmp_path))) as instance:
        chosen = [dg.AssetKey("raw_files"), dg.AssetKey("users")]
        tags = {"dagster/partition": "shop"}
        result = dg.execute_job(dg.reconstructable(full_job), instance, tags=tags, asset_selection=chosen)
        assert result.success
        records = instance.all_logs(result.run_id)
        made = [e.asset_materialization for e in records if e.asset_materialization is not None]
        assert [one.asset_key for one in made] == chosen
        assert len({e.dagster_event.pid for e in records if e.dagster_event and e.dagster_event.pid}) == processes
        # The run's own process holds its lock to the end; those of the steps find it held and go on.
        (record,) = Path(instance.storage_directory(), "run_locks").glob("*.json")
        assert record.stem == result.run_id and read_json(record)["pid"] == os.getpid()
        assert not is_dead(instance, result.run_id)
        assert not [e for e in records if "cannot be locked" in e.message]


def test_a_run_of_the_command_line_takes_the_project_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "another"))
    lake = make_shop(tmp_path, "shop")
    summary = materialize_dataset("shop", ["raw_files"], Project(lake=str(lake)))
    assert summary.error is None and summary.worked == {"raw_files": True}
    assert (lake / "results" / "shop" / "raw_files").exists() and not (tmp_path / "another").exists()
