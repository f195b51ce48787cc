"""What a run leaves in Dagster: one materialization of each result, and tags and an origin that the UI finds it by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.orchestration.build import FULL_JOB, build_definitions
from rallrec_pipeline.orchestration.internals import LOCATION
from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline_tests.orchestration.shop import make_instance, make_shop, write_ratings

STAGES = ("raw_files", "interactions", "rejected_rows")
SETTINGS = '[model]\nname = "tiny"\ndtype = "float32"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A shop whose runs are stored."""
    monkeypatch.setenv("DAGSTER_HOME", str(make_instance(tmp_path)))
    (tmp_path / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    return Project(lake=str(make_shop(tmp_path, "shop")), settings_file=str(tmp_path / "settings.toml"))


@pytest.fixture
def instance(project: Project) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as opened:
        yield opened


def run(project: Project, force: bool = False) -> RunSummary:
    return materialize_dataset("shop", STAGES, project, force=force)


def materializations(instance: dg.DagsterInstance, name: str) -> list[dg.AssetMaterialization]:
    """Of an asset's partition, newest first."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=["shop"])
    found = [record.asset_materialization for record in instance.fetch_materializations(wanted, limit=9).records]
    return [one for one in found if one is not None]


def test_an_idle_run_observes_and_hides_no_cost(project: Project, instance: dg.DagsterInstance) -> None:
    assert run(project).worked == dict.fromkeys(STAGES, True)
    assert run(project).worked == dict.fromkeys(STAGES, False)
    for name in STAGES:
        (made,) = materializations(instance, name)
        assert made.metadata["seconds"].value > 0
        (seen,) = instance.fetch_observations(dg.AssetKey(name), limit=9).records
        observation = seen.asset_observation
        assert observation is not None and observation.partition == "shop"
        assert str(observation.metadata["what_happened"].value).startswith("up to date, nothing to do: made at ")


def test_what_is_up_to_date_is_made_anew_where_it_is_asked_for(project: Project, instance: dg.DagsterInstance) -> None:
    run(project)
    again = run(project, force=True)
    assert again.error is None and again.worked == dict.fromkeys(STAGES, True)
    newest, first = materializations(instance, "interactions")
    assert "because: it was asked for" in str(newest.metadata["what_happened"].value)
    assert newest.tags and first.tags and newest.tags["dagster/data_version"] == first.tags["dagster/data_version"]
    job = build_definitions(project=project).resolve_job_def(FULL_JOB)
    config = {"ops": {"interactions": {"config": {"force": True}}}}
    done = job.execute_in_process(
        run_config=config, instance=instance, partition_key="shop", asset_selection=[dg.AssetKey("interactions")]
    )
    assert done.success and len(materializations(instance, "interactions")) == 3


def test_a_result_that_is_new_to_dagster_is_materialized_though_it_was_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of variants, or with another instance on the same lake."""
    run(project)
    monkeypatch.setenv("DAGSTER_HOME", str(make_instance(tmp_path / "lake")))
    assert run(project).worked == dict.fromkeys(STAGES, False)
    with dg.DagsterInstance.get() as other:
        (made,) = materializations(other, "interactions")
    assert made.metadata["seconds"].value > 0


def test_runs_of_the_command_line_belong_to_the_repository_and_tell_their_settings(
    project: Project, instance: dg.DagsterInstance
) -> None:
    run(project)
    (stored,) = instance.get_runs()
    assert stored.remote_job_origin is not None and stored.remote_job_origin.job_name == FULL_JOB == stored.job_name
    assert stored.tags[".dagster/repository"] == f"__repository__@{LOCATION}"
    told = {name: stored.tags[f"rallrec/{name}"] for name in ("profile", "model", "dtype")}
    assert told == {"profile": "demo", "model": "tiny", "dtype": "float32"}
    (made,) = materializations(instance, "interactions")
    assert {name: made.metadata[name].value for name in told} == told


def test_a_failed_check_shows_what_to_do_and_some_of_the_rows(project: Project) -> None:
    rows = [f"u,i{n},{n % 3 + 7},10\n" for n in range(9)]
    write_ratings(Path(project.lake), "shop", "u,i,5,10\n" + "".join(rows) + "u,,3,[red]x[/red]\n")
    error = run(project).error
    assert error is not None and error.startswith("check few_rejected_rows of interactions failed (rejected 10, ")
    head, *shown = error.splitlines()
    assert "raise `max_rejected`" in head and "tables/rejected_rows/shop.parquet" in head
    assert head.endswith("(docs/checks.md#few_rejected_rows)")
    assert len(shown) == 5 and "  - ratings.csv, line 3: rating is off the scale: u,i0,7,10" in shown
    assert any("empty item id: u,,3,[red]x[/red]" in line for line in shown), "each reason has its turn"


def test_a_cause_of_the_users_is_one_line_in_the_log(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    (Path(project.lake) / "files" / "shop" / "ratings.csv").unlink()
    job = build_definitions(project=project).resolve_job_def(FULL_JOB)
    done = job.execute_in_process(
        partition_key="shop", asset_selection=[dg.AssetKey("raw_files")], raise_on_error=False
    )
    told = capfd.readouterr().err
    assert not done.success and "ratings.csv" in told and "STEP_FAILURE" in told
    assert "Stack Trace" not in told and "Traceback" not in told, told


def test_rows_that_where_leaves_out_are_counted_in_the_metadata(project: Project, instance: dg.DagsterInstance) -> None:
    lake = Path(project.lake)
    file = lake / "catalog" / "shop.toml"
    chosen = 'file = "ratings.csv"\nwhere = { kind = "buy" }'
    file.write_text(file.read_text(encoding="utf-8").replace('file = "ratings.csv"', chosen), encoding="utf-8")
    rows = "u,i,5,10,buy\nu,i,4,9,view\nv,i,4,9,view\n"
    (lake / "files" / "shop" / "ratings.csv").write_text("user_id,item_id,rating,timestamp,kind\n" + rows, "utf-8")
    assert run(project).error is None
    (made,) = materializations(instance, "interactions")
    assert made.metadata["left_out_by_where"].value == 2 and made.metadata["dagster/row_count"].value == 1
