"""The project as a Dagster resource: which lake, which profile or variant."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from rallrec_pipeline.lake.leftovers import remove_leftovers
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.orchestration.executors import begin_run
from rallrec_pipeline.pipeline.adoption import adopt_dataset
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.origin import run_tags
from rallrec_pipeline.pipeline.progress import Reporter
from rallrec_pipeline.pipeline.stage import looking
from rallrec_pipeline.settings import Settings, lake_root, load_settings

PARTITION = "dagster/partition"


class Project(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Empty fields mean the environment: RALLREC_LAKE, RALLREC_PROFILE, RALLREC_SETTINGS."""

    lake: str = ""
    profile: str = ""
    settings_file: str = ""
    _settings: Settings | None = PrivateAttr(None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator[Project, None, None]:
        """Before the first stage of any run, whatever started it: see `begin_run`; then hold the dataset's lock."""
        if context.instance is not None and context.run is not None:
            begin_run(context.instance, context.run.run_id, context.log.warning if context.log else print)
        # One run of a dataset works at a time, from its first stage to its last, whatever started it.
        dataset = context.run.tags.get(PARTITION) if context.run is not None else None
        log = context.log.info if context.log else print
        with lake_lock(self.root(), dataset, log) if dataset else nullcontext():
            looked = looking(self.root(), dataset or SHARED, self.settings())
            if dataset:
                self._clean(dataset, log)
                adopt_dataset(replace(looked, log=log), STAGES)
            if context.instance is not None and context.run is not None:
                context.instance.add_run_tags(context.run.run_id, run_tags(looked))
            yield self

    def _clean(self, dataset: str, log: Callable[[str], None]) -> None:
        """Take away what runs that were killed have left; of what all datasets share under its own lock."""
        lake = self.root()
        gone = remove_leftovers(lake, dataset)
        with lake_lock(lake, SHARED, log):
            gone += remove_leftovers(lake, SHARED, "models")
        if gone:
            log(f"{gone} unfinished file{'' if gone == 1 else 's'} of runs that were killed removed")

    def root(self) -> Path:
        """The lake's folder."""
        return Path(self.lake).resolve() if self.lake else lake_root()

    def settings(self) -> Settings:
        """Settings of the profile or variant, loaded once."""
        if self._settings is None:
            self._settings = load_settings(self.profile or None, lake=self.root(), overrides=self.overrides())
        return self._settings

    def overrides(self) -> Path | None:
        """The file that lies over the profile; None is that of the environment."""
        return Path(self.settings_file) if self.settings_file else None


def stage_run(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, project: Project, dataset: str
) -> StageRun:
    """What a stage or a check of `dataset` is given."""

    def log(message: str) -> None:
        context.log.info(message)

    return StageRun(
        lake=project.root(),
        dataset=dataset,
        settings=project.settings(),
        run_id=context.op_execution_context.run_id,
        log=log,
        progress=lambda what: Reporter(what, log),
    )
