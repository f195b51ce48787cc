"""Commands that show reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rallrec_pipeline.cli.terminal import console
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import lake_root
from rallrec_pipeline.text import visible


def report(dataset: Annotated[str, typer.Argument(help="A dataset.")]) -> None:
    """Print the evaluation report of a dataset and where its files lie."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.evaluation.console import print_report

    get_dataset(dataset, lake_root())
    folder = lake_root() / "reports" / dataset
    json_file, html_file = folder / "evaluation.json", folder / "evaluation.html"
    if not json_file.exists():
        raise ConfigError(f"no report of {dataset!r} in {folder}: run `rallrec run {dataset}` first")
    print_report(_report_of(json_file), console, {"report": html_file, "figures": json_file})


def print_study_report(dataset: str, name: str) -> None:
    """Print the report of a study and where its files lie."""
    from rallrec_pipeline.evaluation.console import print_study

    folder = lake_root() / "reports" / dataset
    json_file, html_file = folder / f"study_{name}.json", folder / f"study_{name}.html"
    print_study(_report_of(json_file), console, {"report": html_file, "figures": json_file})


def results(
    out: Annotated[Path | None, typer.Option(help="A Markdown file; default: to the terminal.")] = None,
) -> None:
    """Tell which claims of the papers hold, from the reports of all studies in the lake."""
    from rallrec_pipeline.evaluation.results_page import results_page
    from rallrec_pipeline.lake.files import write_text

    files = sorted((lake_root() / "reports").glob("*/study_*.json"), key=lambda path: (path.stem, path.parent.name))
    page = results_page([_report_of(file) for file in files])
    if out is None:
        typer.echo(visible(page), nl=False)
        return
    write_text(out, page)
    console.print(f"wrote {out}: {len(files)} reports", markup=False, highlight=False, soft_wrap=True)


def _report_of(file: Path) -> Any:
    """The figures of a report. Raises DataError when the file is damaged."""
    from rallrec_pipeline.lake.files import read_json
    from rallrec_pipeline.lake.sound import require_sound

    require_sound([file])
    return read_json(file)
