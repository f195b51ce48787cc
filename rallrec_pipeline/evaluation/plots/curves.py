"""Plots of whether probabilities rank and mean what they say: ROC, reliability, histograms by label, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.evaluation.plots.canvas import BLUE, FAINT, GRID, INK, VERMILION, WIDTH, canvas, panels, svg
from rallrec_pipeline.evaluation.plots.lines import label, legend_below, lines_of
from rallrec_pipeline.evaluation.reports.wording import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HISTOGRAMS = 6


def curve_plots(report: Report) -> dict[str, bytes]:
    """Caption -> SVG."""
    return {
        "ROC curves: the further up and left, the better; the dotted line is chance": roc_plot(report),
        "Reliability: on the dotted line a probability means what it says": reliability_plot(report),
        "How often each calibrated probability was given, by what the user said": histogram_plot(report),
    }


def roc_plot(report: Report) -> bytes:
    """ROC curves of a few methods; none where AUC is not defined."""
    figure, axes = canvas(WIDTH, WIDTH + 0.2 * len(lines_of(report)))
    _diagonal(axes)
    for line in lines_of(report):
        if (curve := report["curves"][line.name]["roc"]) is not None:
            look = line.look() | {"marker": None}
            axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], label=line.label, **look)
    axes.set(xlabel="share of disliked items ranked as liked", ylabel="share of liked items found")
    legend_below(axes)
    return svg(figure)


def reliability_plot(report: Report) -> bytes:
    """Share of liked items against calibrated P(yes), in bins of equally many rows."""
    figure, axes = canvas(WIDTH, WIDTH + 0.2 * len(lines_of(report)))
    _diagonal(axes)
    for line in lines_of(report):
        bins = report["curves"][line.name]["reliability"]
        axes.plot([b["p"] for b in bins], [b["share_liked"] for b in bins], label=line.label, **line.look())
    axes.set(xlabel="predicted P(yes), mean of a tenth of the rows", ylabel="share of these rows that are liked")
    legend_below(axes)
    return svg(figure)


def histogram_plot(report: Report) -> bytes:
    """Rows by P(yes), liked ones and disliked ones apart, a small plot for each of a few methods."""
    lines = lines_of(report, _HISTOGRAMS)
    figure, every = panels(WIDTH, 0.6 + 1.6 * ceil(len(lines) / 2), ceil(len(lines) / 2), 2)
    for axes in every[len(lines) :]:
        axes.set_visible(False)
    for axes, line in zip(every, lines, strict=False):
        _histogram(axes, report["curves"][line.name]["histogram"], report["methods"][line.name]["title"])
    figure.supxlabel("calibrated P(yes)", fontsize=9, color=INK)
    figure.supylabel("rows", fontsize=9, color=INK)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)
    return svg(figure)


def _histogram(axes: Axes, found: Mapping[str, Any], title: str) -> None:
    edges = found["edges"]
    axes.stairs(found["liked"], edges, color=BLUE, linewidth=1.5, zorder=3, label="liked")
    axes.stairs(found["disliked"], edges, color=VERMILION, linewidth=1.5, linestyle="--", zorder=3, label="disliked")
    axes.set_title(label(title, 30), fontsize=8.5, color=INK)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID, linewidth=0.7)


def _diagonal(axes: Axes) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (2, 3)))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(color=GRID, linewidth=0.7)
