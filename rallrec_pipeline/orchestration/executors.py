"""How the steps of a run are executed, as `automation.executor` says, and what every run does before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from rallrec_pipeline.orchestration.internals import log_failures_in_one_line, wait_patiently
from rallrec_pipeline.orchestration.recovery import hold_run, recover_runs


def begin_run(instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None]) -> None:
    """Recover runs that were killed, hold the lock of this one, wait for pools patiently, and log failures briefly."""
    wait_patiently()
    log_failures_in_one_line()
    try:
        recover_runs(instance, say)
        hold_run(instance, run_id, say)
    except Exception as error:  # whatever is wrong with an earlier run must not stop this one
        say(f"runs that were killed could not be looked for ({error}): the next run tries again")


class WatchedExecutor(dg.Executor):
    """`steps` executes; before, the process of the run begins it. The processes of its steps come and go."""

    def __init__(self, steps: dg.Executor) -> None:
        self.steps = steps

    @property
    def retries(self) -> Any:
        """Whether steps may be tried again."""
        return self.steps.retries

    @property
    def step_dependency_config(self) -> Any:
        """When a step may start."""
        return self.steps.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        """Dagster's events of all steps."""
        begin_run(plan_context.instance, plan_context.run_id, plan_context.log.warning)
        yield from self.steps.execute(plan_context, execution_plan)


def _watched_multiprocess() -> dg.ExecutorDefinition:
    plain = dg.multiprocess_executor
    create = plain.executor_creation_fn
    assert create is not None  # of Dagster's own executors it is there
    watched = dg.ExecutorDefinition(
        name="multiprocess",
        config_schema=plain.config_schema,  # type: ignore[arg-type]  # one that is made already
        requirements=dg.multiple_process_executor_requirements(),
        executor_creation_fn=lambda context: WatchedExecutor(create(context)),
    )
    return watched.configured({"max_concurrent": 1}, name="multiprocess")  # a dataset has one writer


EXECUTORS: dict[str, dg.ExecutorDefinition] = {
    # Forty short steps in a process each would spend minutes on imports; a stage frees its model when it ends.
    "in_process": dg.in_process_executor,
    # Whatever a stage leaves in memory, the GPU's too, is gone at its end.
    "multiprocess": _watched_multiprocess(),
}
