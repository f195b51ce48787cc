"""Commands that look at the lake and change nothing in it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.terminal import console, say, tell_findings
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import lake_root, load_settings
from rallrec_pipeline.text import escaped_json


def datasets() -> None:
    """List the datasets and whether each has a report."""
    from rallrec_pipeline.datasets.catalog import load_catalog

    lake = lake_root()
    table = Table("dataset", "title", "source", "report")
    faults: list[ConfigError] = []
    for name, spec in sorted(load_catalog(lake, faults.append).items()):
        done = (lake / "reports" / name / "evaluation.json").exists()
        table.add_row(name, Text(spec.title), spec.source.kind, "yes" if done else "no")
    console.print(table)
    for fault in faults:
        console.print(Text(f"left out: {fault}", style="red"), soft_wrap=True)


def lineage(
    dataset: Annotated[str, typer.Argument(help="A dataset.")],
    item_id: Annotated[str, typer.Argument(help="An item of it, as in the raw files.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
    at: Annotated[str | None, typer.Option(metavar="RUN_ID", help="The state that this run left behind.")] = None,
    profile: Profile = None,
) -> None:
    """Print the chain of one item from its raw line to the predictions that used it."""
    from rallrec_pipeline.pipeline.lineage.chain import as_json, trace
    from rallrec_pipeline.pipeline.lineage.page import print_lineage

    found = trace(lake_root(), dataset, item_id, load_settings(profile), at)
    if json:
        typer.echo(escaped_json(as_json(found)))
    else:
        print_lineage(found, console)


def status(
    dataset: Annotated[str | None, typer.Argument(help="A dataset; default: all that were ever made.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
    profile: Profile = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure the model's speed here anew.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file, and tell which are damaged.")] = False,
) -> None:
    """Tell what is fresh, stale or missing, why, and about what it will cost to catch up; does no work.

    With --verify the exit status is 1 where a file is not what was written. Where this model never ran on this machine
    its speed is measured once, in about five seconds, and kept in the lake.
    """
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.pipeline.status.speeds import Speeds
    from rallrec_pipeline.pipeline.status.status import dataset_status, made_datasets, status_as_json
    from rallrec_pipeline.pipeline.status.table import print_nothing, print_status
    from rallrec_pipeline.pipeline.status.verify import verify_lake

    lake, settings = lake_root(), load_settings(profile)
    if dataset is not None:
        get_dataset(dataset, lake)
    speeds = Speeds(lake, settings, "anew" if calibrate else "once", say)
    if calibrate:
        speeds.calibration()
    names = [dataset] if dataset else made_datasets(lake)
    found = [dataset_status(lake, name, settings, speeds, verify) for name in names]
    verified = verify_lake(lake, dataset, settings.profile) if verify else None
    if json:
        typer.echo(escaped_json(status_as_json(found, speeds, verified)))
    elif not found:
        print_nothing(lake, console)
    else:
        for one in found:
            print_status(one, settings, console)
    for note in dict.fromkeys(speeds.notes):  # two roles may lack the same
        say(note)
    if verified is not None and not json:
        tell_findings(map(str, verified.damages))
        console.print(verified.summary(), highlight=False, soft_wrap=True)
    if verified is not None and verified.damages:
        raise typer.Exit(1)
    if dataset is not None and found[0].error is not None:
        raise typer.Exit(1)
