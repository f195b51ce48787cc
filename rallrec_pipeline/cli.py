"""`rallrec`: the pipeline from the command line."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rallrec_pipeline.errors import ConfigError, RallrecError
from rallrec_pipeline.settings import PROFILES, lake_root, load_settings

app = typer.Typer(help="Retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets.", no_args_is_help=True)
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)

INTERRUPTED = 130


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="A dataset that `rallrec datasets` lists.")],
    profile: Annotated[str | None, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = None,
    select: Annotated[str | None, typer.Option(help="Asset names, separated by commas; default: all.")] = None,
) -> None:
    """Materialize the assets of one dataset; what is up to date is left alone."""
    start = time.monotonic()
    _check(dataset, profile)
    from rallrec_pipeline.orchestration.jobs import materialize_dataset

    names = tuple(name.strip() for name in select.split(",")) if select else ()
    try:
        summary = materialize_dataset(dataset, names)
    except KeyboardInterrupt:  # typer would leave without a word
        errors.print("rallrec: interrupted; run again to continue where it stopped")
        raise typer.Exit(INTERRUPTED) from None
    worked = [name for name, did in summary.worked.items() if did]
    if summary.error:
        raise RallrecError(summary.error)
    if "evaluation_report" in summary.worked:
        report(dataset)
    if worked:
        console.print(f"{len(worked)} of {len(summary.worked)} stages did work: {', '.join(worked)}")
    else:
        console.print(f"everything is up to date: {len(summary.worked)} stages, no work, no LLM call")
    console.print(f"{time.monotonic() - start:.1f} s, profile {load_settings().profile}")


@app.command()
def report(dataset: Annotated[str, typer.Argument(help="A dataset.")]) -> None:
    """Print the evaluation report of a dataset and where its files lie."""
    from rallrec_pipeline.evaluation.console import print_report
    from rallrec_pipeline.lake.files import read_json

    folder = lake_root() / "reports" / dataset
    json_file, html_file = folder / "evaluation.json", folder / "evaluation.html"
    if not json_file.exists():
        raise ConfigError(f"no report of {dataset!r} in {folder}: run `rallrec run {dataset}` first")
    print_report(read_json(json_file), console, {"report": html_file, "figures": json_file})


@app.command()
def datasets() -> None:
    """List the datasets and whether each has a report."""
    from rallrec_pipeline.datasets.catalog import load_catalog

    lake = lake_root()
    table = Table("dataset", "title", "source", "report")
    for name, spec in sorted(load_catalog(lake).items()):
        done = (lake / "reports" / name / "evaluation.json").exists()
        table.add_row(name, spec.title, spec.source.kind, "yes" if done else "no")
    console.print(table)


def main() -> None:
    """Entry point: a user's error is one line."""
    try:
        app()
    except RallrecError as error:
        errors.print(f"rallrec: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _check(dataset: str, profile: str | None) -> None:
    """Find the user's mistakes before anything heavy is imported."""
    from rallrec_pipeline.datasets.catalog import get_dataset

    load_settings(profile)
    get_dataset(dataset, lake_root())
    if profile:
        os.environ["RALLREC_PROFILE"] = profile  # the stages read it there
    if not os.environ.get("DAGSTER_HOME") and (Path.cwd() / "dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())  # the UI then shows the runs of the command line


if __name__ == "__main__":
    main()
