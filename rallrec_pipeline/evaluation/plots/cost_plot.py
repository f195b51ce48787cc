"""What a prediction costs against what it is worth, as SVG."""

from __future__ import annotations

from rallrec_pipeline.evaluation.plots.canvas import GRID, INK, OTHER, WIDTH, canvas, svg
from rallrec_pipeline.evaluation.plots.lines import legend_below, lines_of
from rallrec_pipeline.evaluation.reports.wording import Report

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_UNITS = (1e-6, "µs", 3), (1e-3, "ms", 3), (1, "s", 2), (_MINUTE, "min", 2), (_HOUR, "h", 2), (_DAY, "d", 6)
_TICKS = {unit * 10**power: f"{10**power:,} {name}" for unit, name, powers in _UNITS for power in range(powers)}
"""Seconds, and how they are told."""


def cost_plots(report: Report) -> dict[str, bytes]:
    """Caption -> SVG; none where no method has both figures."""
    known = {
        name: (figures["cost"]["seconds_per_million"], figures["auc"])
        for name, figures in report["methods"].items()
        if figures["cost"]["seconds_per_million"] and figures["auc"] is not None
    }
    if not known:
        return {}
    return {
        "AUC against the time of a million predictions, without tuning: up and left is better": _plot(report, known)
    }


def _plot(report: Report, known: dict[str, tuple[float, float]]) -> bytes:
    lines = [line for line in lines_of(report) if line.name in known]
    figure, axes = canvas(WIDTH, 3.6 + 0.2 * len(lines))
    others = [found for name, found in known.items() if name not in {line.name for line in lines}]
    if others:
        axes.plot(
            *zip(*others, strict=True), "o", color=OTHER, ms=5, alpha=0.7, label=f"the other methods ({len(others)})"
        )
    for line in lines:
        axes.plot(*known[line.name], color=line.colour, marker=line.marker, ms=8, linestyle="none", label=line.label)
    axes.set_xscale("log")
    axes.margins(0.12)
    low, high = axes.get_xlim()
    ticks = [place for place in _TICKS if low <= place <= high]
    axes.set_xticks(ticks, [_TICKS[place] for place in ticks])
    axes.minorticks_off()
    axes.set(xlabel="time of a million predictions", ylabel="AUC")
    axes.grid(color=GRID, linewidth=0.7)
    axes.xaxis.label.set_color(INK)
    legend_below(axes)
    return svg(figure)
