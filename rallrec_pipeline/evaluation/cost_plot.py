"""What a prediction costs against what it is worth, as SVG."""

from __future__ import annotations

from rallrec_pipeline.evaluation.canvas import GRID, INK, OTHER, WIDTH, canvas, svg
from rallrec_pipeline.evaluation.lines import legend_below, lines_of
from rallrec_pipeline.evaluation.wording import Report, duration


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
    axes.xaxis.set_major_formatter(lambda seconds, _: duration(seconds))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.margins(0.12)
    axes.set(xlabel="time of a million predictions", ylabel="AUC")
    axes.grid(color=GRID, linewidth=0.7)
    axes.xaxis.label.set_color(INK)
    legend_below(axes)
    return svg(figure)
