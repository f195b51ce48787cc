"""Curves of a study as tables in Markdown: its figures, and its cascades over the share of rows asked."""

from __future__ import annotations

from collections.abc import Iterator

from rallrec_pipeline.evaluation.pages.markdown import cell, table
from rallrec_pipeline.evaluation.reports.wording import Report, measure_title, with_error

_SHARES = (0.0, 0.1, 0.2, 0.5, 1.0)


def curves_told(report: Report) -> Iterator[str]:
    """Lines of Markdown, with a blank line before each table; none where the study has no curves."""
    for figure in report.get("figures", {}).values():
        yield from _figure(figure)
    for variant, told in report.get("responses", {}).items():
        where = f"{variant}: " if len(report["responses"]) > 1 else ""
        for cascade in told["cascades"].values():
            yield from _cascade(cascade, where)


def _figure(figure: Report) -> Iterator[str]:
    """A row for each x, a column for each line."""
    measure = figure.get("measure", "auc")
    places = list(dict.fromkeys(point["x"] for line in figure["lines"].values() for point in line))
    yield from ("", f"**{figure['title']}** ({measure_title(measure)})", "")
    yield from _table([figure["x"], *figure["lines"]], [_across(figure, place, measure) for place in places])


def _across(figure: Report, place: str, measure: str) -> list[str]:
    points = [{point["x"]: point for point in line}.get(place) for line in figure["lines"].values()]
    return [place, *(with_error(p[measure], p.get(f"{measure}_se"), 4) if p else "" for p in points)]


def _cascade(cascade: Report, where: str) -> Iterator[str]:
    asked = [point for point in cascade["curve"] if any(abs(point["share"] - share) < 1e-9 for share in _SHARES)]
    yield from (
        "",
        f"**{where}{cascade['title']}: over the share of rows asked** (in order of {cascade['order']}; "
        f"knee of validation rows {cascade['knee']:.0%}; probabilities before calibration)",
        "",
    )
    measures = ("auc", "uauc", "log_loss")
    header = ["share asked", *(measure_title(name) for name in measures), "tokens of a million rows"]
    yield from _table(
        header,
        [
            [
                f"{point['share']:.0%}",
                *(with_error(point[name], point.get(f"{name}_se"), 4) for name in measures),
                f"{point['tokens_per_million']:,.0f}",
            ]
            for point in asked
        ],
    )


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return table([cell(name) for name in header], (map(cell, row) for row in rows), figures=True)
