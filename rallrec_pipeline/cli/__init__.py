"""`rallrec`: the pipeline from the command line."""

from __future__ import annotations

import sys

import typer

from rallrec_pipeline.cli.checking import check, check_model, engines, new
from rallrec_pipeline.cli.looking import datasets, lineage, status
from rallrec_pipeline.cli.pruning import prune
from rallrec_pipeline.cli.recommending import recommend
from rallrec_pipeline.cli.reports import report, results
from rallrec_pipeline.cli.running import run
from rallrec_pipeline.cli.serving import serve
from rallrec_pipeline.cli.terminal import errors
from rallrec_pipeline.errors import RallrecError

__all__ = ["app", "main"]

app = typer.Typer(help="Retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets.", no_args_is_help=True)
for command in (run, report, datasets, status, check_model, engines, prune, results, check, new, serve):
    app.command()(command)
IDS = {"ignore_unknown_options": True}  # an id may begin with a dash
app.command(context_settings=IDS)(lineage)
app.command(context_settings=IDS)(recommend)


def main() -> None:
    """Entry point: a user's error is one line."""
    try:
        app()
    except RallrecError as error:
        errors.print(f"rallrec: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
