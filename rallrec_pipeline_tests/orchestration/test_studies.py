"""Studies as assets: each file is one, and a fault in a file keeps nothing else from loading."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from rallrec_pipeline.orchestration.build import FULL_JOB, REASONING_JOB, STUDIES, STUDY_JOB, build_definitions
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.pipeline.graph import EVERY_STAGE, STAGES
from rallrec_pipeline.pipeline.studies.definition import known_studies
from rallrec_pipeline_tests.orchestration.shop import make_shop

BUILT_IN = dg.AssetKey("study_retrieval_vectors")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    made = make_shop(tmp_path, "shop")
    (made / "studies").mkdir()
    return made


def test_a_study_is_a_partitioned_asset_outside_the_main_job(lake: Path) -> None:
    definitions = build_definitions(project=Project(lake=str(lake)))
    node = definitions.resolve_asset_graph().get(BUILT_IN)
    assert node.group_name == STUDIES == "studies"
    assert node.partitions_def is not None and "shop" in node.partitions_def.get_partition_keys()
    job, of_studies = (definitions.resolve_job_def(name) for name in (FULL_JOB, STUDY_JOB))
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == set(STAGES)
    everything = definitions.resolve_job_def(REASONING_JOB)
    assert {key.to_user_string() for key in everything.asset_layer.executable_asset_keys} == set(EVERY_STAGE)
    assert BUILT_IN in of_studies.asset_layer.executable_asset_keys


def test_faulty_files_leave_the_definitions_whole(lake: Path) -> None:
    for name in ("broken", "no study!", "retrieval_vectors"):
        (lake / "studies" / f"{name}.toml").write_text("title = ", encoding="utf-8")
    graph = build_definitions(project=Project(lake=str(lake))).resolve_asset_graph()
    studies = {key.to_user_string() for key in graph.get_all_asset_keys() if key.to_user_string().startswith("study_")}
    assert studies == {"study_broken", *(f"study_{name}" for name in known_studies(Path("nowhere")))}


def test_a_broken_study_fails_with_its_one_line(lake: Path) -> None:
    (lake / "studies" / "broken.toml").write_text("title = ", encoding="utf-8")
    definitions = build_definitions(project=Project(lake=str(lake)))
    result = definitions.resolve_job_def(STUDY_JOB).execute_in_process(
        partition_key="shop", asset_selection=[dg.AssetKey("study_broken")], raise_on_error=False
    )
    (failure,) = result.get_step_failure_events()
    told = failure.step_failure_data.user_failure_data
    assert told is not None and told.description is not None
    assert f"cannot read the study {lake / 'studies' / 'broken.toml'}" in told.description
    assert "\n" not in told.description
