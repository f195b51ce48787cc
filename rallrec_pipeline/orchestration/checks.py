"""The checks as Dagster asset checks."""

import warnings
from typing import Any

import dagster as dg

from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.pipeline.checks.catalog import CHECKS
from rallrec_pipeline.pipeline.checks.verdict import Check
from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline.pipeline.stage import everything, plan_stages


def build_checks(partitions: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks as Dagster asset checks, partitioned like their assets."""
    with warnings.catch_warnings():  # partitioned checks are a preview, relied on knowingly: Dagster is pinned
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")
        return [_asset_check(check, partitions) for check in CHECKS]


def _asset_check(check: Check, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=check.asset,
        name=check.name,
        description=check.description,
        blocking=check.blocking,
        additional_deps=list(check.also_reads),
        partitions_def=partitions,
    )
    def evaluate(context: dg.AssetCheckExecutionContext, project: Project) -> dg.AssetCheckResult:
        try:
            run = stage_run(context, project, context.partition_key)
            verdict = check.judge(everything(run, plan_stages(run, EVERY_STAGE, [check.asset, *check.also_reads])))
        except RallrecError as error:
            return dg.AssetCheckResult(passed=False, metadata={"error": str(error)})
        return dg.AssetCheckResult(passed=verdict.passed, metadata={k: _shown(v) for k, v in verdict.figures.items()})

    return evaluate


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value
