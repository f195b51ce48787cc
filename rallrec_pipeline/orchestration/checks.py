"""The checks as Dagster asset checks."""

import warnings
from typing import Any

import dagster as dg

from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.evaluation.pages.markdown import plain
from rallrec_pipeline.orchestration.resources import Project, stage_run
from rallrec_pipeline.pipeline.checks.catalog import CHECKS
from rallrec_pipeline.pipeline.checks.verdict import Check, Verdict, advice, failure
from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline.pipeline.stage import everything, plan_stages

WARN = dg.AssetCheckSeverity.WARN


def build_checks(partitions: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """All checks as Dagster asset checks, partitioned like their assets."""
    with warnings.catch_warnings():  # partitioned checks are a preview, relied on knowingly: Dagster is pinned
        warnings.filterwarnings("ignore", "Specifying a partitions_def on an AssetCheckSpec")
        return [_asset_check(check, partitions) for check in CHECKS]


def _asset_check(check: Check, partitions: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    severity = WARN if check.warns else dg.AssetCheckSeverity.ERROR

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
            plans = plan_stages(run, EVERY_STAGE, [check.asset, *check.also_reads])
            if never := [name for name in check.also_reads if plans[name].record is None]:  # it was not selected yet
                lacks = f"not judged yet: {', '.join(never)} of {run.dataset!r} was never made"
                return dg.AssetCheckResult(passed=False, severity=WARN, description=lacks)
            verdict = check.judge(everything(run, plans))
        except RallrecError as error:
            return dg.AssetCheckResult(passed=False, severity=severity, description=str(error))
        told = None if verdict.passed else failure(check, verdict, run.dataset)
        return dg.AssetCheckResult(
            passed=verdict.passed, severity=severity, description=told, metadata=_metadata(check, verdict, run.dataset)
        )

    return evaluate


def _metadata(check: Check, verdict: Verdict, dataset: str) -> dict[str, Any]:
    """The figures; where the check has failed also what to do, and rows that speak against it."""
    shown = {name: _shown(value) for name, value in verdict.figures.items()}
    if verdict.passed:
        return shown
    shown["what_to_do"] = advice(check, dataset)
    if verdict.examples:
        shown["rows"] = dg.MetadataValue.md("\n".join(f"- {plain(example)}" for example in verdict.examples))
    return shown


def _shown(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value
