"""Studies of the same methods on other test rows, as those of several splits, beside each other as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rallrec_pipeline.evaluation.pages.markdown import cell, table
from rallrec_pipeline.evaluation.reports.wording import Report, measure_title, rows_told, with_error

_SHOWN = ("auc", "uauc")


def beside_told(reports: Sequence[Report]) -> Iterator[str]:
    """A table for each name that studies of one dataset share, with a column for each of them and measure."""
    groups: dict[tuple[str, str], list[Report]] = {}
    for report in reports:
        if report.get("beside"):
            groups.setdefault((report["beside"], report["dataset"]), []).append(report)
    for (name, _), found in groups.items():
        if len(found) > 1:
            yield from (f"## {name.capitalize()} of {found[0]['dataset_title']}, beside each other", "")
            yield from ("Test rows are others in each column, so no difference between two columns has a p.", "")
            yield from (*_table(found), "")


def _table(reports: Sequence[Report]) -> list[str]:
    header = [f"{report['study']}: {measure_title(measure)}" for report in reports for measure in _SHOWN]
    rows = [rows_told(report) for report in reports for _ in _SHOWN]
    titles: dict[str, str] = {}
    for report in reports:
        for method, one in report["methods"].items():
            titles.setdefault(method, one["title"])
    figures = (
        [cell(title), *(_figure(report["methods"].get(method), name) for report in reports for name in _SHOWN)]
        for method, title in titles.items()
    )
    head, ruler, *lines = table(["method", *header], figures, figures=True)
    return [head, ruler, f"| | {' | '.join(rows)} |", *lines]


def _figure(figures: Report | None, measure: str) -> str:
    return "" if figures is None else with_error(figures[measure], figures[f"{measure}_se"], 4)
