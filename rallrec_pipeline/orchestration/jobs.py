"""One dataset materialized in this process, for the command line."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg

from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.build import FULL_JOB, REASONING_JOB, STUDY_JOB, build_definitions
from rallrec_pipeline.orchestration.internals import (
    RunFailureReason,
    SerializableErrorInfo,
    apart_from_ctrl_c,
    create_runs_of_repository,
    kept_connections,
)
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.orchestration.storage import run_instance
from rallrec_pipeline.pipeline.graph import STAGES, require_stages
from rallrec_pipeline.pipeline.studies.run import stage_name
from rallrec_pipeline.text import visible


@dataclass
class RunSummary:
    """Which stages ran and whether each did work, which checks held; `error` is the first failure, in words.

    `warnings` are failures of checks that only warn. `llm` counts the rows and tokens that went through the LLM, over
    all stages.
    """

    run_id: str = ""
    worked: dict[str, bool] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    llm: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def materialize_dataset(
    dataset: str,
    names: Sequence[str] = (),
    project: Project | None = None,
    study: str | None = None,
    force: bool = False,
) -> RunSummary:
    """Run the stages `names` of `dataset`, or a `study`, in this process, whatever the executor.

    Without names all run but those of the reasoner. With `force` each is made anew, also where it is up to date.

    `project` says which lake and which settings, by default those of the environment. The run goes into the instance
    of DAGSTER_HOME where that is set. It holds the dataset's lock until its end, so that runs with other settings
    never mix with it. Raises ConfigError for an unknown asset.
    """
    require_stages(names)
    project = project or Project()
    definitions = build_definitions(project=project, loggers={"console": plain_console})
    job = definitions.resolve_job_def(
        STUDY_JOB if study else FULL_JOB if STAGES.keys() >= set(names) else REASONING_JOB
    )
    chosen = [stage_name(study)] if study else list(names)
    forced = {name: {"config": {"force": True}} for name in names or STAGES} if force else {}
    with lake_lock(project.root(), dataset, _say), kept_connections(), run_instance(_say) as instance, _interruptible():
        create_runs_of_repository(instance, job.name)
        result = job.execute_in_process(
            instance=instance,
            partition_key=dataset,
            asset_selection=[dg.AssetKey(name) for name in chosen] or None,
            run_config={"loggers": {"console": {}}, "ops": forced},
            raise_on_error=False,
        )
        return _summary(result)


def _say(message: str) -> None:
    print(visible(message), file=sys.stderr, flush=True)


@dg.logger(config_schema=None, description="The stages' own lines on the terminal, without Dagster's events.")
def plain_console(_: dg.InitLoggerContext) -> logging.Logger:
    """A logger that prints what stages say, and nothing else."""
    logger = logging.Logger("rallrec", logging.INFO)
    handler = _ToStderr()
    handler.addFilter(_is_own_line)
    handler.setFormatter(_OwnLine("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    return logger


class _ToStderr(logging.Handler):
    """Writes to what is stderr at that moment: while a progress bar is drawn, that keeps lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(visible(self.format(record)), file=sys.stderr, flush=True)


class _OwnLine(logging.Formatter):
    """Takes the message that a stage logged out of Dagster's decoration."""

    def format(self, record: logging.LogRecord) -> str:
        record.msg, record.args = record.dagster_meta["orig_message"], ()  # type: ignore[attr-defined]
        record.exc_info = record.exc_text = None
        return super().format(record)


def _is_own_line(record: logging.LogRecord) -> bool:
    meta = getattr(record, "dagster_meta", {})
    message = str(meta.get("orig_message") or "")
    skipped = message.startswith("Dependencies for step")  # of each stage after one that failed
    return bool(message) and not skipped and not meta.get("dagster_event")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as Python knows it, not as Dagster wraps it, and for this process alone."""
    try:
        with apart_from_ctrl_c():
            yield
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None


def _summary(result: dg.ExecuteInProcessResult) -> RunSummary:
    summary = RunSummary(run_id=result.run_id)
    for event in result.all_events:
        if event.is_step_failure:
            if _was_interrupted(event):
                raise KeyboardInterrupt
            summary.error = summary.error or _reason(event)
        if event.event_type in (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED):
            summary.error = summary.error or _reason_of_run(event)
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION:
            summary.worked[event.asset_observation_data.asset_observation.asset_key.path[-1]] = False
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            worked = materialization.metadata.get("worked")
            summary.worked[materialization.asset_key.path[-1]] = bool(worked.value) if worked else True
            usage = materialization.metadata.get("llm")
            if isinstance(usage, dg.JsonMetadataValue) and isinstance(usage.data, dict):
                summary.llm.update(usage.data)
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            evaluation = event.asset_check_evaluation_data
            told = evaluation.description or f"check {evaluation.check_name} failed"
            if evaluation.severity == dg.AssetCheckSeverity.ERROR:
                summary.checks[evaluation.check_name] = evaluation.passed
                summary.error = summary.error or (None if evaluation.passed else told)
            elif not evaluation.passed:
                summary.warnings.append(told)
    return summary


def _reason_of_run(event: dg.DagsterEvent) -> str:
    """Why the run ended although no stage failed: Ctrl-C between stages, or an error before the first of them."""
    if event.event_type == dg.DagsterEventType.RUN_CANCELED:
        raise KeyboardInterrupt
    failure = event.job_failure_data
    if failure.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION:
        raise KeyboardInterrupt
    return f"the run failed: {_innermost(failure.error, event.message or 'no reason is known')}"


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    """Whether the step failed because of Ctrl-C, which Dagster records as a failure."""
    error = event.step_failure_data.error
    while error is not None:
        if error.cls_name in (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__):
            return True
        error = error.cause
    return False


def _reason(event: dg.DagsterEvent) -> str:
    """The step's own one-line failure, or the innermost error of a traceback."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return f"{event.step_key}: {_innermost(data.error, event.message or '')}"


def _innermost(error: SerializableErrorInfo | None, otherwise: str) -> str:
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else otherwise
