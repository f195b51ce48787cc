"""The command `prune`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from rallrec_pipeline.cli.terminal import console, say
from rallrec_pipeline.settings import lake_root


def prune(
    dataset: Annotated[str | None, typer.Argument(help="A dataset; default: all, and what they share.")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="How many newest runs keep what they made; default 5.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, max=100_000, metavar="DAYS", help="Remove only what is older; without --keep, all of it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> None:
    """Remove results that no variant and no recent run leads to, and finished rows that only they were made of."""
    from rallrec_pipeline.lake.prune import PruneOptions, prune_lake

    done = prune_lake(lake_root(), dataset, PruneOptions(keep, older_than, dry_run), say)
    table = Table("what", *(Column(name, justify="right") for name in ("files", "rows", "bytes")))
    for kind, gone in done.kinds.items():
        table.add_row(Text(kind), *(f"{count:,}" for count in (gone.files, gone.rows, gone.bytes)))
    if done.kinds:
        console.print(table)
    for note in done.notes:
        console.print(Text(note), soft_wrap=True)
    console.print(f"{'would remove' if dry_run else 'removed'} {done.summary()}", highlight=False)
