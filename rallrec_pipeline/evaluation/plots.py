"""Plots of the evaluation report as PNG bytes, below 100 KB each, in the colour-blind-safe palette of Okabe and Ito."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.canvas import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    canvas,
    plain,
    png,
)
from rallrec_pipeline.evaluation.report import MAIN
from rallrec_pipeline.evaluation.wording import Report, highlighted, number, paper_main, ranked, reference_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OTHER_LINES = ((GREEN, "--"), (PURPLE, "-."), (VERMILION, ":"), (SKY, "--"))


def methods_plot(report: Report) -> bytes:
    """AUC of every method as a bar from 0.5 (chance) with its 95% interval, and RALLRec's published AUC as a line."""
    methods = ranked(report)[::-1]
    figure, axes = canvas(8.0, 1.3 + 0.42 * len(methods))
    auc = np.array([_auc(figures) for _, figures in methods])
    low, high = np.array([_interval(figures) for _, figures in methods]).T
    colours = [_bar_colour(name, figures) for name, figures in methods]
    rows = np.arange(len(methods))
    axes.barh(rows, auc - 0.5, left=0.5, height=0.68, color=colours, zorder=2)
    axes.errorbar(
        auc,
        rows,
        xerr=np.maximum(0, [auc - low, high - auc]),
        fmt="none",
        ecolor=INK,
        elinewidth=1.2,
        capsize=3,
        zorder=3,
    )
    axes.set_yticks(rows, [plain(figures["title"]) for _, figures in methods])
    axes.set_xlabel("AUC on the same test rows\n(bars start at 0.5, chance; whiskers: 95% interval)")
    published = paper_main(report)
    right = max(0.6, float(high.max()), published["auc"] if published else 0.0)
    edge = right + 0.035
    axes.set_xlim(min(0.5, float(low.min())) - 0.005, edge)
    for row, (_, figures) in enumerate(methods):  # a column at the edge, where neither whiskers nor the line pass
        axes.text(edge, row, number(figures["auc"]), va="center", ha="right", fontsize=9, color=INK)
    axes.axvline(0.5, color=INK, linewidth=0.8)
    axes.grid(axis="x", color=GRID, linewidth=0.7, zorder=0)
    _methods_legend(figure, axes, report, published)
    return png(figure)


def roc_plot(report: Report) -> bytes:
    """ROC curves of the highlighted methods; none where AUC is not defined."""
    figure, axes = canvas(5.6, 5.2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, linestyle=(0, (2, 3)))
    for name, (colour, style) in _lines(report, highlighted(report)).items():
        figures, curve = report["methods"][name], report["curves"][name]["roc"]
        if curve is None:
            continue
        wrong, right = curve["false_positive_rate"], curve["true_positive_rate"]
        label = f"{plain(figures['title'])} ({number(figures['auc'])})"
        axes.plot(wrong, right, color=colour, linestyle=style, linewidth=1.7, label=label)
    axes.set(xlabel="share of disliked items ranked as liked", ylabel="share of liked items found")
    _square(axes)
    return png(figure)


def reliability_plot(report: Report) -> bytes:
    """Share of liked items against predicted P(yes), in ten bins of equally many rows, of the highlighted methods."""
    figure, axes = canvas(5.6, 5.2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.9, linestyle=(0, (2, 3)))
    for name, (colour, style) in _lines(report, highlighted(report, others=1)).items():
        figures, bins = report["methods"][name], report["curves"][name]["reliability"]
        predicted, observed = ([part[key] for part in bins] for key in ("p", "share_liked"))
        label = f"{plain(figures['title'])} ({number(figures['log_loss'])})"
        axes.plot(predicted, observed, color=colour, linestyle=style, linewidth=1.5, marker="o", ms=4, label=label)
    axes.set(xlabel="predicted P(yes), mean of a tenth of the rows", ylabel="share of these rows that are liked")
    _square(axes)
    return png(figure)


def report_plots(report: Report) -> dict[str, bytes]:
    """All plots: caption -> PNG."""
    return {
        "AUC of every method": methods_plot(report),
        "ROC curves (AUC in brackets)": roc_plot(report),
        "Reliability (log loss in brackets); the dotted line is perfect": reliability_plot(report),
    }


def _interval(figures: Mapping[str, Any]) -> tuple[float, float]:
    low, high = figures["auc_ci"]
    return (_auc(figures), _auc(figures)) if low is None or high is None else (low, high)


def _auc(figures: Mapping[str, Any]) -> float:
    """The length of a bar; a method without an AUC has none."""
    return 0.5 if figures["auc"] is None else float(figures["auc"])


def _bar_colour(name: str, figures: Mapping[str, Any]) -> str:
    if figures["kind"] != "llm":
        return ORANGE
    return BLUE if name == MAIN else SKY


def _methods_legend(figure: Figure, axes: Axes, report: Report, published: Mapping[str, Any] | None) -> None:
    from matplotlib.artist import Artist
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    colours = {_bar_colour(name, figures) for name, figures in ranked(report)}
    for colour, label in ((BLUE, "RALLRec"), (SKY, "other LLM methods"), (ORANGE, "without an LLM")):
        if colour in colours:
            handles.append(Patch(color=colour, label=label))
    if published:
        label = f"RALLRec in its paper, on {report['paper']['title']}: {number(published['auc'])}"
        handles.append(axes.axvline(published["auc"], color=VERMILION, linewidth=1.6, linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8.5)


def _lines(report: Report, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and style by method; RALLRec and the reference have theirs in every plot."""
    own = {MAIN: (BLUE, "-"), reference_of(report): (ORANGE, "-")}
    others = iter(_OTHER_LINES)
    return {name: own.get(name) or next(others) for name in names}


def _square(axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(color=GRID, linewidth=0.7)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, fontsize=8.5)
