"""`rallrec`: the pipeline from the command line."""

from __future__ import annotations

import sys

import typer

from rallrec_pipeline.cli.checking import check, check_model, engines, new
from rallrec_pipeline.cli.forgetting import forget
from rallrec_pipeline.cli.looking import datasets, lineage, status
from rallrec_pipeline.cli.pruning import prune
from rallrec_pipeline.cli.reports import report, results
from rallrec_pipeline.cli.running import run
from rallrec_pipeline.cli.terminal import errors
from rallrec_pipeline.errors import RallrecError

__all__ = ["app", "main"]

app = typer.Typer(help="Retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets.", no_args_is_help=True)
for command in (run, report, datasets, status, check_model, engines, prune, results, check, new):
    app.command()(command)
for with_id in (lineage, forget):
    app.command(context_settings={"ignore_unknown_options": True})(with_id)  # an id may begin with a dash


def main() -> None:
    """Entry point: a user's error is one line."""
    try:
        app()
    except RallrecError as error:
        errors.print(f"rallrec: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
