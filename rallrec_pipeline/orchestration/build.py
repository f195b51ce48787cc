"""Dagster definitions from the graph: assets, checks, job, resource."""

from collections.abc import Mapping

import dagster as dg

from rallrec_pipeline.datasets.catalog import load_catalog
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.orchestration.automation import build_refresh, build_sensors, new_inputs
from rallrec_pipeline.orchestration.checks import build_checks
from rallrec_pipeline.orchestration.executors import EXECUTORS
from rallrec_pipeline.orchestration.metadata import dagster_metadata
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES
from rallrec_pipeline.pipeline.stage import Outcome, Stage, run_stage

LLM_POOL = "llm"
FULL_JOB = "recommender"
OWNER = "team:rallrec"
USES_LLM = "rallrec/uses_llm"
KINDS: dict[str, set[str]] = {
    "raw_files": {"file"},
    "base_model": {"safetensors"},
    "text_embeddings": {"numpy"},
    "collaborative_embeddings": {"pytorch"},
    "aligned_embeddings": {"pytorch"},
    "item_embeddings": {"numpy"},
    "item_index": {"faiss"},
    "retrieved_histories": {"numpy", "polars"},
    "baseline_predictions": {"scikitlearn", "polars"},
    "dataset_report": {"polars", "matplotlib"},
    "evaluation_report": {"numpy", "matplotlib"},
}
"""What computes a stage or what it is made of, where that is neither the LLM nor Polars."""


def build_definitions(
    *, project: Project | None = None, loggers: Mapping[str, dg.LoggerDefinition] | None = None
) -> dg.Definitions:
    """The whole project for one code location.

    `project` says which lake and which settings, by default those of the environment; `loggers` replace Dagster's own.
    """
    project = project or Project()
    log = dg.get_dagster_logger("rallrec")
    catalog = load_catalog(project.root(), on_fault=lambda fault: log.error(f"dataset left out: {fault}"))
    automation = project.settings().automation
    partitions = dg.StaticPartitionsDefinition(sorted(catalog))
    condition = new_inputs() if automation.conditions else None
    return dg.Definitions(
        assets=[_asset(stage, partitions, condition) for stage in GRAPH],
        asset_checks=build_checks(partitions),
        jobs=[dg.define_asset_job(FULL_JOB, dg.AssetSelection.all(), description="Every stage of one dataset.")],
        sensors=build_sensors(catalog, FULL_JOB, project),
        schedules=[build_refresh(catalog, FULL_JOB, project)],
        resources={"project": project},
        loggers=loggers,
        executor=EXECUTORS[automation.executor],
    )


def kinds_of(stage: Stage) -> set[str]:
    """What computes a stage, as the UI shows it."""
    return {"llm", "pytorch"} if stage.uses_llm else KINDS.get(stage.name, {"polars"})


def _asset(
    stage: Stage,
    partitions: dg.PartitionsDefinition,
    condition: dg.AutomationCondition | None,  # type: ignore[type-arg]
) -> dg.AssetsDefinition:
    @dg.asset(
        name=stage.name,
        group_name=stage.group,
        deps=list(stage.inputs),
        description=stage.description,
        code_version=stage.code_version,
        partitions_def=partitions if stage.partitioned else None,
        pool=LLM_POOL if stage.uses_llm else None,
        kinds=kinds_of(stage),
        owners=[OWNER],
        tags={USES_LLM: str(stage.uses_llm).lower()},
        automation_condition=condition,
    )
    def materialize(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:  # type: ignore[type-arg]
        dataset = context.partition_key if stage.partitioned else SHARED
        try:
            run = stage_run(context, project, dataset)
            outcome = run_stage(run, STAGES, stage.name)
        except RallrecError as error:
            # One line for the user; a traceback of ours would only hide it.
            raise dg.Failure(description=str(error), allow_retries=False) from None
        return _result(outcome, run)

    return materialize


def _result(outcome: Outcome, run: StageRun) -> dg.MaterializeResult:  # type: ignore[type-arg]
    record = outcome.record
    return dg.MaterializeResult(
        data_version=dg.DataVersion(record.data_version),
        metadata={"worked": outcome.worked, **dagster_metadata(record, run.lake, outcome.worked)},
    )
