"""Commands that show reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from rallrec_pipeline.cli.options import Profile
from rallrec_pipeline.cli.terminal import console, say
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.settings import lake_root
from rallrec_pipeline.text import clean_text

KEPT = Path(__file__).resolve().parents[2] / "docs" / "results"
"""Where this project keeps its studies, if it was not installed without its repository."""


def report(dataset: Annotated[str, typer.Argument(help="A dataset.")], profile: Profile = None) -> None:
    """Print the evaluation report of a dataset and where its files lie: that made last, or that of a variant."""
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.evaluation.pages.console import print_report

    get_dataset(dataset, lake_root())
    folder = (lake_root() if profile is None else _folder_of(dataset, profile)) / "reports" / dataset
    json_file, html_file = folder / "evaluation.json", folder / "evaluation.html"
    if not json_file.exists():
        raise ConfigError(f"no report of {dataset!r} in {folder}: run `rallrec run {dataset}` first")
    print_report(_report_of(json_file), console, {"report": html_file, "figures": json_file})


def _folder_of(dataset: str, profile: str) -> Path:
    """Of the report that a variant has. Raises ConfigError that names the variants which have one."""
    from rallrec_pipeline.lake.store import read_ref, record_of, variant_refs

    lake, stage = lake_root(), "evaluation_report"
    record = record_of(lake, dataset, read_ref(lake, dataset, profile), stage)
    if record is None:
        made = sorted({ref.variant for ref in variant_refs(lake, dataset) if stage in ref.results})
        raise ConfigError(f"no report of {dataset!r} as {profile!r}: there are those of {', '.join(made) or 'none'}")
    return record.folder(lake)


def print_study_report(dataset: str, name: str) -> None:
    """Print the report of a study and where its files lie."""
    from rallrec_pipeline.evaluation.pages.console import print_study

    folder = lake_root() / "reports" / dataset
    json_file, html_file = folder / f"study_{name}.json", folder / f"study_{name}.html"
    print_study(_report_of(json_file), console, {"report": html_file, "figures": json_file})


def results(
    out: Annotated[Path | None, typer.Option(help="Write every table to a Markdown file instead.")] = None,
    kept: Annotated[
        Path | None, typer.Option(help="Folder of kept studies, told of beside the lake's; default: this project's.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Write the lake's studies into this folder, as small JSON files.")
    ] = None,
) -> None:
    """Tell which claims of the papers hold, from the reports of the studies in the lake and of those that are kept."""
    from rallrec_pipeline.evaluation.pages.results_page import claims_told, results_page
    from rallrec_pipeline.evaluation.reports.kept import newest
    from rallrec_pipeline.evaluation.reports.wording import counted
    from rallrec_pipeline.lake.files import write_text
    from rallrec_pipeline.pipeline.studies.kept import keep_studies, kept_studies, lake_studies

    own = lake_studies(lake_root())
    if keep is not None:
        for file in keep_studies(own, keep):
            console.print(f"kept {file}", markup=False, highlight=False, soft_wrap=True)
        if out is None:
            return
    reports = newest([*own, *kept_studies(_kept_folder(kept))])
    if out is None:
        for title, head, rows in claims_told(reports):
            table = Table(title=Text(clean_text(title, 200)))
            for name in head:
                table.add_column(Text(clean_text(name)))
            for row in rows:
                table.add_row(*(Text(clean_text(cell, 400)) for cell in row))
            console.print(table)
        if not reports:
            console.print("No study was run yet: `rallrec run DATASET --study tables`.", highlight=False)
            return
        say(f"{counted(len(reports), 'report')}; p by Holm's method; every table: `rallrec results --out FILE.md`")
        return
    write_text(out, results_page(reports))
    console.print(f"wrote {out} from {counted(len(reports), 'report')}", markup=False, highlight=False, soft_wrap=True)


def _kept_folder(asked: Path | None) -> Path:
    """The folder of kept studies. Raises ConfigError for one that was asked for and is not there."""
    if asked is not None and not asked.is_dir():
        raise ConfigError(f"--kept: there is no folder {asked}")
    if asked is None and not KEPT.is_dir():
        say("the studies that this project keeps are not installed with it, so only those of the lake are told of:")
        say("they lie in docs/results of its repository, and --kept names a copy of that folder")
    return asked or KEPT


def _report_of(file: Path) -> Any:
    """The figures of a report. Raises DataError when the file is damaged."""
    from rallrec_pipeline.lake.files import read_json
    from rallrec_pipeline.lake.sound import require_sound

    require_sound([file])
    return read_json(file)
