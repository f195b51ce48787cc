"""What a run leaves in Dagster: one materialization of a result, its words, and an origin that the UI finds it by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.orchestration.build import FULL_JOB, build_definitions
from rallrec_pipeline.orchestration.internals import LOCATION
from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.language_models.small_llama import NARROW, write_llama
from rallrec_pipeline_tests.orchestration.shop import make_instance, make_shop, write_ratings
from rallrec_pipeline_tests.pipeline.given import looking_run, work

SHARED = "predictor"
STAGES = (SHARED, "raw_files", "interactions", "rejected_rows")
SETTINGS = '[model]\nsource = "{model}"\nname = "tiny"\ndtype = "float32"\n'


def make_project(root: Path, home: Path, patch: pytest.MonkeyPatch) -> Project:
    """A shop whose runs are stored in the instance of `home`."""
    patch.setenv("DAGSTER_HOME", str(home))
    write_llama(root / "model", NARROW, template=None, begins=False)
    (root / "settings.toml").write_text(SETTINGS.format(model=(root / "model").as_posix()), encoding="utf-8")
    return Project(lake=str(make_shop(root, "shop")), settings_file=str(root / "settings.toml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return make_project(tmp_path, make_instance(tmp_path), monkeypatch)


@dataclass(frozen=True)
class Told:
    """Three runs of one shop: the first, an idle one, and one that makes everything anew."""

    runs: list[RunSummary]
    instance: dg.DagsterInstance
    project: Project


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    root = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(root, make_instance(root), patch)
        runs = [run(project), run(project), run(project, force=True)]
        with dg.DagsterInstance.get() as instance:
            yield Told(runs, instance, project)


def run(project: Project, force: bool = False) -> RunSummary:
    return materialize_dataset("shop", STAGES, project, force=force)


def materializations(instance: dg.DagsterInstance, name: str) -> list[dg.AssetMaterialization]:
    """Of an asset's partition, if it has any, newest first."""
    wanted = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=None if name == SHARED else ["shop"])
    found = [record.asset_materialization for record in instance.fetch_materializations(wanted, limit=9).records]
    return [one for one in found if one is not None]


def test_an_idle_run_observes_and_hides_no_cost(told: Told) -> None:
    assert [set(summary.worked.values()) for summary in told.runs] == [{True}, {False}, {True}]
    assert all(summary.worked.keys() == set(STAGES) for summary in told.runs)
    for name in STAGES:
        made = materializations(told.instance, name)
        assert len(made) == 2 and all(one.metadata["seconds"].value for one in made)
        (seen,) = told.instance.fetch_observations(dg.AssetKey(name), limit=9).records
        observation = seen.asset_observation
        assert observation is not None and observation.partition == (None if name == SHARED else "shop")
        assert str(observation.metadata["what_happened"].value).startswith("up to date, nothing to do: made at ")


def test_what_is_up_to_date_is_made_anew_where_it_is_asked_for(told: Told) -> None:
    newest, first = materializations(told.instance, "interactions")
    assert "because: it was asked for" in str(newest.metadata["what_happened"].value)
    assert newest.tags and first.tags and newest.tags["dagster/data_version"] == first.tags["dagster/data_version"]
    config = {"ops": {"interactions": {"config": {"force": True}}}}  # as the UI's launchpad takes it
    job = build_definitions(project=told.project).resolve_job_def(FULL_JOB)
    assert dg.validate_run_config(job, config)["ops"]["interactions"]["config"] == {"force": True}


def test_runs_of_the_command_line_belong_to_the_repository_and_tell_their_settings(told: Told) -> None:
    by_repository = dg.RunsFilter(tags={".dagster/repository": f"__repository__@{LOCATION}"})
    stored = told.instance.get_runs(by_repository)  # as the UI's pages ask
    assert len(stored) == 3
    for one in stored:
        assert one.remote_job_origin is not None and one.remote_job_origin.job_name == FULL_JOB == one.job_name
    wanted = {"profile": "demo", "model": "tiny", "dtype": "float32"}
    assert {name: stored[0].tags[f"rallrec/{name}"] for name in wanted} == wanted
    made = materializations(told.instance, "interactions")[0]
    assert {name: made.metadata[name].value for name in wanted} == wanted


def test_a_result_that_is_new_to_dagster_is_materialized_though_it_was_there(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of variants, or with another instance on the same lake."""
    monkeypatch.setenv("DAGSTER_HOME", str(make_instance(tmp_path)))
    assert run(told.project).worked == dict.fromkeys(STAGES, False)
    with dg.DagsterInstance.get() as other:
        (made,) = materializations(other, "interactions")
    assert made.metadata["seconds"].value


def test_a_failed_check_shows_what_to_do_and_some_of_the_rows(project: Project) -> None:
    rows = [f"u,i{n},{n % 3 + 7},10\n" for n in range(9)]
    write_ratings(Path(project.lake), "shop", "u,i,5,10\n" + "".join(rows) + "u,,3,[red]x[/red]\n")
    error = run(project).error
    assert error is not None and error.startswith("check few_rejected_rows of interactions failed (rejected 10, ")
    head, *shown = error.splitlines()
    assert "raise `max_rejected`" in head and "tables/rejected_rows/shop.parquet" in head
    assert head.endswith("(docs/checks.md#few_rejected_rows)")
    assert len(shown) == 5 and "  - ratings.csv, line 3: rating is off the scale" in shown
    assert any("empty item id" in line for line in shown), "each reason has its turn"
    assert not any("u,i" in line for line in shown), "raw rows name users, whom Dagster's events must not know"


def test_a_cause_of_the_users_is_one_line_in_the_log(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    (Path(project.lake) / "files" / "shop" / "ratings.csv").unlink()
    job = build_definitions(project=project).resolve_job_def(FULL_JOB)
    done = job.execute_in_process(
        partition_key="shop", asset_selection=[dg.AssetKey("raw_files")], raise_on_error=False
    )
    told = capfd.readouterr().err
    assert not done.success and "ratings.csv" in told and "STEP_FAILURE" in told
    assert "Stack Trace" not in told and "Traceback" not in told, told


def test_rows_that_where_leaves_out_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = make_shop(tmp_path, "shop")
    file = lake / "catalog" / "shop.toml"
    chosen = 'file = "ratings.csv"\nwhere = { kind = "buy" }'
    file.write_text(file.read_text(encoding="utf-8").replace('file = "ratings.csv"', chosen), encoding="utf-8")
    rows = "u,i,5,10,buy\nu,i,4,9,view\nv,i,4,9,view\n"
    (lake / "files" / "shop" / "ratings.csv").write_text("user_id,item_id,rating,timestamp,kind\n" + rows, "utf-8")
    run = looking_run(lake, "shop", load_settings("demo"))
    fetch_raw_files(run.spec, lake)
    made, _ = work(run, "interactions")
    assert (made.metadata["rows"], made.metadata["left_out_by_where"]) == (1, 2)


def test_a_check_that_looks_at_an_asset_which_was_not_selected_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, make_instance(tmp_path), monkeypatch)
    summary = materialize_dataset("shop", ["raw_files", "interactions"], project)
    assert summary.error is None and summary.worked["interactions"]
    assert any("not judged yet: rejected_rows of 'shop' was never made" in line for line in summary.warnings)
