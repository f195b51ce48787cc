"""Dagster definitions from the graph: assets, checks, job, resource."""

from collections.abc import Mapping

import dagster as dg

from rallrec_pipeline.datasets.catalog import load_catalog
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.orchestration.automation import build_refresh, build_sensors
from rallrec_pipeline.orchestration.checks import build_checks
from rallrec_pipeline.orchestration.metadata import dagster_metadata
from rallrec_pipeline.orchestration.pool import wait_patiently
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES
from rallrec_pipeline.pipeline.stage import Outcome, Stage, run_stage
from rallrec_pipeline.settings import lake_root, load_settings

LLM_POOL = "llm"
FULL_JOB = "recommender"


def build_definitions(loggers: Mapping[str, dg.LoggerDefinition] | None = None) -> dg.Definitions:
    """The whole project for one code location; `loggers` replace Dagster's own."""
    wait_patiently()
    log = dg.get_dagster_logger("rallrec")
    catalog = load_catalog(lake_root(), on_fault=lambda fault: log.error(f"dataset left out: {fault}"))
    automation = load_settings().automation
    partitions = dg.StaticPartitionsDefinition(sorted(catalog))
    assets = [_asset(stage, partitions) for stage in GRAPH]
    return dg.Definitions(
        assets=assets,
        asset_checks=build_checks(partitions),
        jobs=[dg.define_asset_job(FULL_JOB, dg.AssetSelection.all(), description="Every stage of one dataset.")],
        sensors=build_sensors(catalog, FULL_JOB, automation),
        schedules=[build_refresh(catalog, FULL_JOB, automation)],
        resources={"project": Project()},
        loggers=loggers,
        # Forty short steps in a process each would spend minutes on imports; a stage frees its model when it ends.
        executor=dg.in_process_executor,
    )


def _asset(stage: Stage, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=stage.name,
        group_name=stage.group,
        deps=list(stage.inputs),
        description=stage.description,
        code_version=stage.code_version,
        partitions_def=partitions if stage.partitioned else None,
        pool=LLM_POOL if stage.uses_llm else None,
        kinds={"llm"} if stage.uses_llm else {"polars"},
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
