"""AUC of all methods in one picture: a dot with its 95% interval each, for the page and for the UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.plots.canvas import BLUE, GRID, INK, ORANGE, OTHER, SKY, VERMILION, canvas, png, svg
from rallrec_pipeline.evaluation.plots.lines import label
from rallrec_pipeline.evaluation.reports.evaluation_report import MAIN
from rallrec_pipeline.evaluation.reports.wording import Report, direction, number, paper_main, ranked, reference_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = "AUC of every method with its 95% interval, on the same test rows"
LOOKS = {
    "ours": (BLUE, "RALLRec"),
    "llm": (SKY, "other LLM methods"),
    "plain": (ORANGE, "without an LLM"),
    "reference": (ORANGE, "the reference"),
    "apart": (BLUE, "told apart from the reference at 5%"),
    "same": (OTHER, "not told apart"),
}
"""Colour and meaning of a method's dot: the first three in a report, the others in a study."""
_MANY = 20  # methods; a picture of more is stored more coarsely, for it also lies in Dagster's database
_WIDTH = 5.4  # inches
_LABEL = 64  # characters
_FROM_CHANCE = 0.03  # a figure this near to chance has chance in the picture too


def overview_png(report: Report) -> bytes:
    """For Dagster's UI, below 100 KB."""
    return png(_overview(report), dpi=100 if len(report["methods"]) <= _MANY else 66)


def overview_svg(report: Report) -> bytes:
    """For a page."""
    return svg(_overview(report))


def look_of(report: Report, name: str) -> str:
    """A key of LOOKS: in a study by the difference to the reference, in a report by the kind of method."""
    if "study" not in report:
        return "ours" if name == MAIN else "llm" if report["methods"][name]["kind"] == "llm" else "plain"
    if name == reference_of(report):
        return "reference"
    return "apart" if direction(report["paired"][name]["auc"]) else "same"


def _overview(report: Report) -> Figure:
    """In a study's own order, in a report the best first; each title stands above its dot."""
    methods = (list(report["methods"].items()) if "study" in report else ranked(report))[::-1]
    figure, axes = canvas(_WIDTH, 1.3 + 0.46 * len(methods))
    for row, (name, figures) in enumerate(methods):
        _dot(axes, row, figures, LOOKS[look_of(report, name)][0])
    axes.set_yticks([])
    axes.set(ylim=(-0.5, len(methods) - 0.2), xlabel="AUC", xlim=_limits(report))
    axes.grid(axis="x", color=GRID, linewidth=0.7, zorder=0)
    _legend(figure, axes, report)
    return figure


def _dot(axes: Axes, row: int, figures: Mapping[str, Any], colour: str) -> None:
    auc, across = figures["auc"], axes.get_yaxis_transform()
    title = axes.text(0, row + 0.36, label(figures["title"], _LABEL, lines=1), transform=across, fontsize=9, color=INK)
    title.set(va="center", in_layout=False)
    axes.text(1, row, number(auc), transform=across, va="center", ha="right", fontsize=9, color=INK)
    if auc is not None:
        low, high = (auc if bound is None else bound for bound in figures["auc_ci"])
        error = np.maximum(0, [[auc - low], [high - auc]])
        axes.errorbar(
            auc, row, xerr=error, fmt="o", color=colour, ms=7, ecolor=INK, elinewidth=1.2, capsize=3, zorder=3
        )


def _limits(report: Report) -> tuple[float, float]:
    """Room for all dots and intervals, the published figure, chance where it is near, and the numbers at the right."""
    known = [f for f in report["methods"].values() if f["auc"] is not None]
    ends = [end for f in known for end in (f["auc"], *f["auc_ci"]) if end is not None]
    if (published := _published(report)) is not None:
        ends.append(published)
    low, high = min(ends, default=0.5), max(ends, default=0.6)
    low = 0.5 if abs(low - 0.5) < _FROM_CHANCE else low
    room = max(high - low, 0.02)
    return low - 0.03 * room, high + 0.16 * room


def _legend(figure: Figure, axes: Axes, report: Report) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D

    there = {look_of(report, name) for name in report["methods"]}
    handles: list[Artist] = [
        Line2D([], [], color=colour, marker="o", ms=7, linestyle="none", label=told)
        for look, (colour, told) in LOOKS.items()
        if look in there
    ]
    reference = report["methods"].get(reference_of(report))
    if "study" in report and reference and reference["auc"] is not None:
        axes.axvline(reference["auc"], color=ORANGE, linewidth=1.2, linestyle="--", zorder=1)
    if (published := _published(report)) is not None:
        told = f"RALLRec as published on {report['paper']['title']}: {number(published)}"
        handles.append(axes.axvline(published, color=VERMILION, linewidth=1.4, linestyle="--", label=told))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=1 + (len(handles) > 2),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def _published(report: Report) -> float | None:
    """AUC of RALLRec in its own paper; a study has its published figures in its tables."""
    row = None if "study" in report else paper_main(report)
    return None if row is None else row["auc"]
