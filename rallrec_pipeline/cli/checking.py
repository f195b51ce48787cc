"""Commands that check: a model, two engines, a dataset's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.terminal import console, leave_if_any, say, tell_findings
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import lake_root, load_settings

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.checking.report import CheckReport

MAX_REASONS = 12  # a reason may count fields, so there may be many


def check_model(
    dataset: Annotated[str | None, typer.Argument(help="A dataset, whose own prompts are then counted.")] = None,
    profile: Profile = None,
) -> None:
    """Check the model of the settings against this machine, without its weights, and tell every problem at once."""
    from rallrec_pipeline.pipeline.readiness import check_run_model, roles_by_model

    settings, problems = load_settings(profile), 0
    for roles, own in roles_by_model(settings):
        found = check_run_model(lake_root(), own, dataset, roles=roles)
        console.print(Text(f"{', '.join(roles)}: {own.model.name}", style="bold"), soft_wrap=True)
        tell_findings(found.problems, found.warnings)
        for name, value in found.figures.items():
            shown = f"{value / 1e9:.1f} GB" if "memory" in name else f"{value:,}" if isinstance(value, int) else value
            console.print(Text(f"{name}: {shown}"), soft_wrap=True)
        problems += len(found.problems)
    leave_if_any(problems)
    console.print(Text(f"ready: {settings.model.name} can run here"), soft_wrap=True)


def engines(
    dataset: Annotated[str, typer.Argument(help="A dataset that has prompts.")],
    profile: Profile = None,
) -> None:
    """Tell which engine runs the LLM and why, and check on the dataset's prompts that both give the same answers."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.language_models.engines.choice import choose_engine
    from rallrec_pipeline.pipeline.context import StageRun
    from rallrec_pipeline.pipeline.engine_check import check_engines
    from rallrec_pipeline.pipeline.graph import STAGES
    from rallrec_pipeline.pipeline.progress import Reporter
    from rallrec_pipeline.pipeline.stage import everything, plan_stages

    settings = load_settings(profile)
    get_dataset(dataset, lake_root(), settings.protocol)
    choice = choose_engine(settings.role("predictor"))
    console.print(f"{choice.name} {choice.version}: {choice.reason}", markup=False, highlight=False)
    run = StageRun(lake_root(), dataset, settings, "", say, lambda what: Reporter(what, say))
    run = everything(run, plan_stages(run, STAGES))
    problems = 0
    for name, found in check_engines(run):
        console.print(f"{name}: {found}", markup=False, highlight=False, soft_wrap=True)
        tell_findings(f"{name}: {problem}" for problem in found.problems)
        problems += len(found.problems)
    if problems:
        raise typer.Exit(1)
    console.print("the engines agree")


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="A dataset's TOML file, or the name of a dataset.")],
) -> None:
    """Tell the problems of a dataset's TOML file, all at once, and once it has none those of the real files."""
    from rallrec_pipeline.datasets.catalog import dataset_file
    from rallrec_pipeline.datasets.checking.report import check_dataset

    lake, settings = lake_root(), load_settings()
    if file.suffix != ".toml":
        if file.is_file():
            raise _no_toml(file, "file")
        try:
            file = dataset_file(str(file), lake)
        except ConfigError:
            if file.is_dir():
                raise _no_toml(file, "folder") from None
            raise
    _tell_check(file, lake, check_dataset(file, lake, settings.seeds.data), settings.protocol)


def _no_toml(data: Path, kind: str) -> ConfigError:
    return ConfigError(
        f"{data} is a {kind} of data: `rallrec new {data} -o NAME.toml` writes the TOML file that says how to read it"
    )


def new(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="Files, or folders, of the data.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.toml", help="As in data_lake/catalog/shop.toml.")],
) -> None:
    """Look at files and write a first TOML file of them, with a comment at each guess, and check it."""
    from rallrec_pipeline.datasets.drafting.new import new_dataset

    settings = load_settings()
    done = new_dataset(files, out, lake_root(), settings.seeds.data)
    console.print(f"wrote {done.path}", markup=False, highlight=False, soft_wrap=True)
    for what in done.decisions:
        console.print(Text.assemble(("?", "yellow"), " ", f"to decide: {what}"), soft_wrap=True)
    _tell_check(out, lake_root(), done.report, settings.protocol)


def _tell_check(file: Path, lake: Path, found: CheckReport, protocol: str) -> None:
    """Print what a check has found; problems end the command with 1. What `run` asks for first is asked here too."""
    from rallrec_pipeline.datasets.catalog import load_dataset, with_protocol
    from rallrec_pipeline.datasets.checking.places import is_listed

    tell_findings(found.problems, found.warnings)
    if found.figures.get("rows"):
        console.print(_figures(found.figures))
    leave_if_any(len(found.problems))
    with_protocol(load_dataset(file), protocol)
    first = "" if is_listed(file, lake) else f"put it into {lake / 'catalog'}/ and "
    console.print(f"ready: {first}run `rallrec run {file.stem}`", markup=False, highlight=False, soft_wrap=True)


def _figures(figures: dict[str, Any]) -> Table:
    """What the files hold, and what each protocol makes of it."""
    rows, protocols = figures["rows"], figures["protocols"]
    table = Table()
    for name in ("figure", "files", *protocols):
        table.add_column(Text(name), justify="left" if name == "figure" else "right")

    def add(name: str, of_files: int | None, key: str = "") -> None:
        cells = [of_files, *(made.get(key) for made in protocols.values())]
        if any(cell is not None for cell in cells):
            table.add_row(Text(name), *(_figure(cell) for cell in cells))

    add("ratings", rows.get("interactions"), "interactions")
    add("users with ratings", figures.get("users"), "users")
    add("items with ratings", figures.get("items"), "items")
    add("rows of items", rows.get("items"))
    add("rows of users", rows.get("users"))
    for key in ("samples", "train", "valid", "test", "liked"):
        add(key, None, key)
    add("neighbours of one time", None, "equal_times")
    for reason, count in list(figures["refused"].items())[:MAX_REASONS]:
        add(f"left out of {reason}", count)
    return table


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"
