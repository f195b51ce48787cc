"""Dagster definitions from the graph: assets, checks, job, resource."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from rallrec_pipeline.datasets.catalog import load_catalog
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.orchestration.automation import build_refresh, build_sensors, new_inputs
from rallrec_pipeline.orchestration.checks import build_checks
from rallrec_pipeline.orchestration.executors import EXECUTORS
from rallrec_pipeline.orchestration.outcomes import Making, tell_outcome
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import EVERY_STAGE, GRAPH, ON_REQUEST, STAGES
from rallrec_pipeline.pipeline.stage import Stage, decisive_settings, looking, run_stage
from rallrec_pipeline.pipeline.studies.definition import known_studies
from rallrec_pipeline.pipeline.studies.run import run_study, stage_name

LLM_POOL = "llm"
FULL_JOB = "recommender"
REASONING_JOB = "reasoning"
STUDY_JOB = "study"
STUDIES = "studies"
OWNER = "team:rallrec"
USES_LLM = "rallrec/uses_llm"
KINDS: dict[str, set[str]] = {
    "raw_files": {"file"},
    "writer": {"safetensors"},
    "encoder": {"safetensors"},
    "predictor": {"safetensors"},
    "reasoner": {"safetensors"},
    "text_embeddings": {"numpy"},
    "collaborative_embeddings": {"pytorch"},
    "aligned_embeddings": {"pytorch"},
    "item_embeddings": {"numpy"},
    "item_index": {"faiss"},
    "retrieved_histories": {"numpy", "polars"},
    "baseline_predictions": {"scikitlearn", "polars"},
    "expert_predictions": {"scikitlearn", "numpy"},
    "recommender_fit": {"scikitlearn", "safetensors"},
    "recommendation_report": {"numpy", "matplotlib"},
    "dataset_report": {"polars", "matplotlib"},
    "alignment_report": {"scikitlearn", "matplotlib"},
    "evaluation_report": {"numpy", "matplotlib"},
    "merged_predictions": {"scikitlearn", "numpy"},
    "reasoning_report": {"numpy", "matplotlib"},
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
    versions = _code_versions(project, catalog)
    return dg.Definitions(
        assets=[
            *(_asset(stage, partitions, condition, versions[stage.name]) for stage in GRAPH),
            *(_asset(stage, partitions, None, versions[stage.name]) for stage in ON_REQUEST),
            *(_study(name, partitions) for name in known_studies(project.root())),
        ],
        asset_checks=build_checks(partitions),
        jobs=[
            dg.define_asset_job(
                FULL_JOB, _stages(STAGES), description="Every stage of one dataset but those of the reasoner."
            ),
            dg.define_asset_job(REASONING_JOB, _stages(EVERY_STAGE), description="Every stage, the reasoner's too."),
            dg.define_asset_job(
                STUDY_JOB, dg.AssetSelection.groups(STUDIES), description="Every study of one dataset."
            ),
        ],
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
    code_version: str,
) -> dg.AssetsDefinition:
    @dg.asset(
        name=stage.name,
        group_name=stage.group,
        deps=list(stage.inputs),
        description=stage.description,
        code_version=code_version,
        partitions_def=partitions if stage.partitioned else None,
        pool=LLM_POOL if stage.uses_llm else None,
        kinds=kinds_of(stage),
        owners=[OWNER],
        tags={USES_LLM: str(stage.uses_llm).lower()},
        automation_condition=condition,
    )
    def materialize(
        context: dg.AssetExecutionContext,
        config: Making,
        project: Project,
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        dataset = context.partition_key if stage.partitioned else SHARED
        try:
            run = stage_run(context, project, dataset)
            outcome = run_stage(run, EVERY_STAGE, stage.name, config.force)
        except RallrecError as error:
            # One line for the user; a traceback of ours would only hide it.
            raise dg.Failure(description=str(error), allow_retries=False) from None
        return tell_outcome(context, run, outcome, stage.role)

    return materialize


def _study(name: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The report of a study; the stages of its variants run within it."""

    @dg.asset(
        name=stage_name(name),
        group_name=STUDIES,
        deps=["samples", "item_embeddings"],
        description="A study: what its variants share is computed once. Its file says what it compares.",
        partitions_def=partitions,
        pool=LLM_POOL,
        kinds={"llm", "numpy"},
        owners=[OWNER],
        tags={USES_LLM: "true"},
    )
    def materialize(context: dg.AssetExecutionContext, project: Project) -> dg.MaterializeResult:  # type: ignore[type-arg]
        try:
            run = stage_run(context, project, context.partition_key)
            outcome = run_study(run, EVERY_STAGE, name, project.profile or None, project.overrides())
        except RallrecError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from None
        return tell_outcome(context, run, outcome)

    return materialize


def _stages(names: Iterable[str]) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*names)


def _code_versions(project: Project, catalog: Mapping[str, DatasetSpec]) -> dict[str, str]:
    """What Dagster compares: the code and the settings of a stage.

    Dagster knows one code version for all partitions, so the settings of every dataset are in it: a change of one
    dataset's file lets the UI call the others stale too, and materializing them finds nothing to do.
    """
    runs = [looking(project.root(), name, project.settings()) for name in sorted(catalog)]

    def version(stage: Stage) -> str:
        settings = [_settings_of(stage, run) for run in (runs if stage.partitioned else runs[:1])]
        return f"{stage.code_version}-{stable_hash(settings)[:12]}"

    return {name: version(stage) for name, stage in EVERY_STAGE.items()}


def _settings_of(stage: Stage, run: StageRun) -> Any:
    try:
        return decisive_settings(stage, run)
    except RallrecError:  # a dataset without the protocol of the settings: its own run says so
        return None
