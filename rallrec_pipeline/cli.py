"""`rallrec`: the pipeline from the command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from rallrec_pipeline.errors import ConfigError, RallrecError
from rallrec_pipeline.settings import PROFILES, Settings, lake_root, load_settings

app = typer.Typer(help="Retrieval-augmented, LoRA-tuned LLM recommendation as Dagster assets.", no_args_is_help=True)
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)

INTERRUPTED = 130
MAX_REASONS = 12  # a reason may count fields, so there may be many

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "--variant",
        metavar="NAME",
        help=f"{', '.join(PROFILES)}, or a file of your own: `variants/NAME.toml` in the lake.",
    ),
]


@app.command()
def run(
    dataset: Annotated[str, typer.Argument(help="A dataset that `rallrec datasets` lists.")],
    profile: Profile = None,
    select: Annotated[str | None, typer.Option(help="Asset names, separated by commas; default: all.")] = None,
    study: Annotated[str | None, typer.Option(help="A study instead: methods and variants side by side.")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="With the stages of the reasoner (RALLRec+).")] = False,
) -> None:
    """Materialize the assets of one dataset, or a study of it; what is up to date is left alone."""
    start = time.monotonic()
    settings = _check(dataset, profile, study)
    if study and select:
        raise ConfigError("--study and --select exclude each other: a study makes what it needs")
    if reasoning and (study or select):
        raise ConfigError("--reasoning means all stages, so it goes with neither --study nor --select")
    from rallrec_pipeline.orchestration.jobs import materialize_dataset
    from rallrec_pipeline.orchestration.resources import Project
    from rallrec_pipeline.pipeline.graph import EVERY_STAGE

    project = Project(profile=profile or "")
    names = tuple(name.strip() for name in select.split(",")) if select else tuple(EVERY_STAGE) if reasoning else ()
    try:
        summary = materialize_dataset(dataset, names, project, study)
    except KeyboardInterrupt:  # typer would leave without a word
        errors.print("rallrec: interrupted; run again to continue where it stopped")
        raise typer.Exit(INTERRUPTED) from None
    worked = [name for name, did in summary.worked.items() if did]
    if summary.error:
        raise RallrecError(summary.error)
    if "evaluation_report" in summary.worked:
        report(dataset)
    if study:
        _study(dataset, study)
    if worked:
        console.print(f"{len(worked)} of {len(summary.worked)} stages did work: {', '.join(worked)}")
        console.print(_llm_work(summary.llm))
    else:
        what = (
            f"up to date: {', '.join(names)}" if select else f"everything is up to date: {len(summary.worked)} stages"
        )
        console.print(f"{what}, no work, no LLM call")
    console.print(f"{time.monotonic() - start:.1f} s, profile {settings.profile}")


@app.command()
def report(dataset: Annotated[str, typer.Argument(help="A dataset.")]) -> None:
    """Print the evaluation report of a dataset and where its files lie."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.evaluation.console import print_report
    from rallrec_pipeline.lake.files import read_json

    get_dataset(dataset, lake_root())
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
    faults: list[ConfigError] = []
    for name, spec in sorted(load_catalog(lake, faults.append).items()):
        done = (lake / "reports" / name / "evaluation.json").exists()
        table.add_row(name, Text(spec.title), spec.source.kind, "yes" if done else "no")
    console.print(table)
    for fault in faults:
        console.print(Text(f"left out: {fault}", style="red"), soft_wrap=True)


@app.command()
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
        typer.echo(as_json(found))
    else:
        print_lineage(found, console)


@app.command()
def status(
    dataset: Annotated[str | None, typer.Argument(help="A dataset; default: all that were ever made.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")] = False,
    profile: Profile = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure the model's speed here anew.")] = False,
) -> None:
    """Tell what is fresh, stale or missing, why, and about what it will cost to catch up; does no work.

    Where this model never ran on this machine its speed is measured once, in about five seconds, and kept in the lake.
    """
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.pipeline.status.speeds import Speeds
    from rallrec_pipeline.pipeline.status.status import dataset_status, made_datasets, status_as_json
    from rallrec_pipeline.pipeline.status.table import print_nothing, print_status

    lake, settings = lake_root(), load_settings(profile)
    if dataset is not None:
        get_dataset(dataset, lake)
    speeds = Speeds(lake, settings, "anew" if calibrate else "once", _note)
    if calibrate:
        speeds.calibration()
    found = [dataset_status(lake, name, settings, speeds) for name in ([dataset] if dataset else made_datasets(lake))]
    if json:
        typer.echo(status_as_json(found, speeds))
    elif not found:
        print_nothing(lake, console)
    else:
        for one in found:
            print_status(one, settings, console)
    for note in speeds.notes:
        _note(note)
    if dataset is not None and found[0].error is not None:
        raise typer.Exit(1)


@app.command("check-model")
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
        for mark, style, messages in (("✗", "red", found.problems), ("!", "yellow", found.warnings)):
            for message in messages:
                console.print(Text.assemble((mark, style), " ", message), soft_wrap=True)
        for name, value in found.figures.items():
            shown = f"{value / 1e9:.1f} GB" if "memory" in name else f"{value:,}" if isinstance(value, int) else value
            console.print(Text(f"{name}: {shown}"), soft_wrap=True)
        problems += len(found.problems)
    if problems:
        plural = "" if problems == 1 else "s"
        console.print(f"not ready: {problems} problem{plural} to mend", highlight=False)
        raise typer.Exit(1)
    console.print(Text(f"ready: {settings.model.name} can run here"), soft_wrap=True)


@app.command()
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

    def say(message: str) -> None:
        errors.print(message, markup=False, highlight=False, soft_wrap=True)

    settings = load_settings(profile)
    get_dataset(dataset, lake_root(), settings.protocol)
    choice = choose_engine(settings.role("predictor"))
    console.print(f"{choice.name} {choice.version}: {choice.reason}", markup=False, highlight=False)
    run = StageRun(lake_root(), dataset, settings, "", say, lambda what: Reporter(what, say))
    run = everything(run, plan_stages(run, STAGES))
    problems = 0
    for name, found in check_engines(run):
        console.print(f"{name}: {found}", markup=False, highlight=False, soft_wrap=True)
        for problem in found.problems:
            problems += 1
            console.print(Text.assemble(("✗", "red"), " ", f"{name}: {problem}"), soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    console.print("the engines agree")


@app.command()
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

    def say(message: str) -> None:
        errors.print(message, markup=False, highlight=False, soft_wrap=True)

    done = prune_lake(lake_root(), dataset, PruneOptions(keep, older_than, dry_run), say)
    table = Table("what", *(Column(name, justify="right") for name in ("files", "rows", "bytes")))
    for kind, gone in done.kinds.items():
        table.add_row(Text(kind), *(f"{count:,}" for count in (gone.files, gone.rows, gone.bytes)))
    if done.kinds:
        console.print(table)
    for note in done.notes:
        console.print(Text(note), soft_wrap=True)
    console.print(f"{'would remove' if dry_run else 'removed'} {done.summary()}", highlight=False)


@app.command()
def results(
    out: Annotated[Path | None, typer.Option(help="A Markdown file; default: to the terminal.")] = None,
) -> None:
    """Tell which claims of the papers hold, from the reports of all studies in the lake."""
    from rallrec_pipeline.evaluation.results_page import results_page
    from rallrec_pipeline.lake.files import read_json, write_text

    files = sorted((lake_root() / "reports").glob("*/study_*.json"), key=lambda path: (path.stem, path.parent.name))
    page = results_page([read_json(file) for file in files])
    if out is None:
        typer.echo(page, nl=False)
        return
    write_text(out, page)
    console.print(f"wrote {out}: {len(files)} reports", markup=False, highlight=False, soft_wrap=True)


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="A dataset's TOML file.")]) -> None:
    """Tell the problems of a dataset's TOML file, all at once, and once it has none those of the real files."""
    from rallrec_pipeline.datasets.checking.places import is_listed
    from rallrec_pipeline.datasets.checking.report import check_dataset

    lake = lake_root()
    found = check_dataset(file, lake, load_settings().seeds.data)
    for mark, style, messages in (("✗", "red", found.problems), ("!", "yellow", found.warnings)):
        for message in messages:  # with text from the files, so never read as markup
            console.print(Text.assemble((mark, style), " ", message), soft_wrap=True)
    if found.figures.get("rows"):
        console.print(_figures(found.figures))
    if found.problems:
        plural = "" if len(found.problems) == 1 else "s"
        console.print(f"not ready: {len(found.problems)} problem{plural} to mend", highlight=False)
        raise typer.Exit(1)
    first = "" if is_listed(file, lake) else f"put it into {lake / 'catalog'}/ and "
    console.print(f"ready: {first}run `rallrec run {file.stem}`", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: a user's error is one line."""
    try:
        app()
    except RallrecError as error:
        errors.print(f"rallrec: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _note(message: str) -> None:
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def _llm_work(usage: Mapping[str, int]) -> str:
    if not usage.get("rows"):
        return "no LLM call"
    counts = ("rows", "prompt tokens", "new tokens")
    return "LLM: " + ", ".join(f"{usage.get(name.replace(' ', '_'), 0):,} {name}" for name in counts)


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


def _study(dataset: str, name: str) -> None:
    """Print the report of a study and where its files lie."""
    from rallrec_pipeline.evaluation.console import print_study
    from rallrec_pipeline.lake.files import read_json

    folder = lake_root() / "reports" / dataset
    json_file, html_file = folder / f"study_{name}.json", folder / f"study_{name}.html"
    print_study(read_json(json_file), console, {"report": html_file, "figures": json_file})


def _check(dataset: str, profile: str | None, study: str | None) -> Settings:
    """Find the user's mistakes before anything heavy is imported; returns the settings."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.pipeline.studies import load_study, study_variants

    settings, lake = load_settings(profile), lake_root()
    get_dataset(dataset, lake)
    if study:
        study_variants(study, load_study(study, lake), profile, lake)
    if not os.environ.get("DAGSTER_HOME") and (Path.cwd() / "dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())  # the UI then shows the runs of the command line
    return settings


if __name__ == "__main__":
    main()
