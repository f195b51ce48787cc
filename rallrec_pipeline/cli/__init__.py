"""`rallrec`: the pipeline from the command line."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from rallrec_pipeline.cli.checking import check, check_model, engines, new
from rallrec_pipeline.cli.forgetting import forget
from rallrec_pipeline.cli.looking import datasets, lineage, status
from rallrec_pipeline.cli.options import DashesAreNames, paragraphs
from rallrec_pipeline.cli.pruning import prune
from rallrec_pipeline.cli.recommending import recommend
from rallrec_pipeline.cli.reports import report, results
from rallrec_pipeline.cli.running import run
from rallrec_pipeline.cli.serving import serve
from rallrec_pipeline.cli.terminal import errors
from rallrec_pipeline.errors import RallrecError

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True)
LOOKING = (report, datasets, status, results, lineage, recommend)
CHECKING = (check, check_model, engines, new)
for command in (run, *LOOKING, *CHECKING, serve, forget, prune):
    app.command(cls=DashesAreNames, help=paragraphs(command))(command)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rallrec-pipeline {version('rallrec-pipeline')}")
        raise typer.Exit


@app.callback()
def start(
    told: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets."""


def main() -> None:
    """Entry point: a user's error is one line."""
    try:
        app()
    except RallrecError as error:
        errors.print(f"rallrec: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
