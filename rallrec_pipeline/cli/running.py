"""The command `run`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.reports import print_study_report, report
from rallrec_pipeline.cli.terminal import console, errors, tell_findings
from rallrec_pipeline.errors import ConfigError, RallrecError
from rallrec_pipeline.settings import Settings, lake_root, load_settings

INTERRUPTED = 130


def run(
    dataset: Annotated[str, typer.Argument(help="A dataset that `rallrec datasets` lists.")],
    profile: Profile = None,
    select: Annotated[str | None, typer.Option(help="Asset names, separated by commas; default: all.")] = None,
    study: Annotated[str | None, typer.Option(help="A study instead: methods and variants side by side.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="With the stages of the reasoner (RALLRec+).")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Make the assets anew, also those that are up to date.")
    ] = False,
) -> None:
    """Materialize the assets of one dataset, or a study of it; what is up to date is left alone."""
    start = time.monotonic()
    names = tuple(name.strip() for name in select.split(",")) if select else ()
    settings = _check(dataset, profile, study, names)
    if study and select:
        raise ConfigError("--study and --select exclude each other: a study makes what it needs")
    if force and study:
        raise ConfigError("--force and --study exclude each other: name the assets to make anew with --select")
    if reasoning and (study or select):
        raise ConfigError("--reasoning means all stages, so it goes with neither --study nor --select")
    from rallrec_pipeline.orchestration.jobs import materialize_dataset
    from rallrec_pipeline.orchestration.resources import Project
    from rallrec_pipeline.pipeline.graph import EVERY_STAGE

    project = Project(profile=profile or "")
    stages = tuple(EVERY_STAGE) if reasoning else names
    try:
        summary = materialize_dataset(dataset, stages, project, study, force)
    except KeyboardInterrupt:  # typer would leave without a word
        errors.print("rallrec: interrupted; run again to continue where it stopped")
        raise typer.Exit(INTERRUPTED) from None
    worked = [name for name, did in summary.worked.items() if did]
    if summary.error:
        raise RallrecError(summary.error)
    if "evaluation_report" in summary.worked:
        report(dataset)
    tell_findings((), summary.warnings)
    if study:
        print_study_report(dataset, study)
    if worked:
        console.print(f"{len(worked)} of {len(summary.worked)} stages did work: {', '.join(worked)}")
        console.print(_llm_work(summary.llm))
    else:
        what = (
            f"up to date: {', '.join(names)}" if select else f"everything is up to date: {len(summary.worked)} stages"
        )
        console.print(f"{what}, no work, no LLM call")
    console.print(f"{time.monotonic() - start:.1f} s, profile {settings.profile}")


def _llm_work(usage: Mapping[str, int]) -> str:
    if not usage.get("rows"):
        return "no LLM call"
    counts = ("rows", "prompt tokens", "new tokens")
    return "LLM: " + ", ".join(f"{usage.get(name.replace(' ', '_'), 0):,} {name}" for name in counts)


def _check(dataset: str, profile: str | None, study: str | None, names: Sequence[str]) -> Settings:
    """Find the user's mistakes before the first stage begins; returns the settings."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.datasets.raw_files import require_raw_files
    from rallrec_pipeline.pipeline.graph import require_stages
    from rallrec_pipeline.pipeline.studies.definition import load_study, study_variants

    settings, lake = load_settings(profile), lake_root()
    spec = get_dataset(dataset, lake, settings.protocol)
    if study:
        study_variants(study, load_study(study, lake), profile, lake)
    require_stages(names)
    if not names or "raw_files" in names:
        require_raw_files(spec, lake)
    if not os.environ.get("DAGSTER_HOME") and (Path.cwd() / "dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())  # the UI then shows the runs of the command line
    return settings
