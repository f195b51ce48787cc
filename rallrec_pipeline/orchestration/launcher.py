"""The run launcher of `dagster.yaml`: the daemon's run monitoring then notices runs whose process was killed."""

from __future__ import annotations

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from rallrec_pipeline.orchestration.recovery import is_dead, process_of


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which can also tell whether the process of a run is gone; see `recovery.py`."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask this launcher about a run."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED when the process is known to be gone; of what is not known the run counts as alive."""
        if is_dead(self._instance, run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"{process_of(self._instance, run.run_id)} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
