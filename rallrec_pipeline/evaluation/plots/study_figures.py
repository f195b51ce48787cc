"""The figures that a study's file asks for: a measure over a setting, a line for each name, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rallrec_pipeline.evaluation.plots.canvas import GRID, WIDTH, canvas, svg
from rallrec_pipeline.evaluation.plots.lines import MOST, label, legend_below, named_lines
from rallrec_pipeline.evaluation.plots.slice_plots import draw_points
from rallrec_pipeline.evaluation.reports.wording import Report, measure_title

_APART = 0.012  # of the axis, between the intervals of two lines at one x


def figure_plots(report: Report) -> dict[str, bytes]:
    """Caption -> SVG, in the study's order."""
    plots: dict[str, bytes] = {}
    for name, found in report["figures"].items():
        caption = _caption(found)
        plots[f"{caption} ({name})" if caption in plots else caption] = figure_plot(found)
    return plots


def figure_plot(found: Mapping[str, Any]) -> bytes:
    """A measure with its 95% interval; x is an axis of numbers where all are numbers, else one of names."""
    lines = named_lines(list(found["lines"]))
    points = {line.name: found["lines"][line.name] for line in lines}
    places = x_places([point["x"] for part in points.values() for point in part])
    measure = found["measure"]
    figure, axes = canvas(WIDTH, 3.4 + 0.2 * len(lines))
    span = (max(places.values()) - min(places.values()) if places else 0) or 1
    for number, line in enumerate(lines):
        shift = span * _APART * (number - (len(lines) - 1) / 2)
        known = sorted((p for p in points[line.name] if p[measure] is not None), key=lambda p: places[p["x"]])
        x = np.array([places[point["x"]] + shift for point in known])
        draw_points(axes, x, np.array([p[measure] for p in known]), [p[f"{measure}_ci"] for p in known], line)
    axes.set_xticks(list(places.values()), [label(x, 14) for x in places], fontsize=8 if len(places) < 6 else 7)
    axes.set(xlabel=label(found["x"]), ylabel=measure_title(measure), xlim=_limits(list(places.values()), span))
    axes.grid(color=GRID, linewidth=0.7)
    legend_below(axes)
    return svg(figure)


def x_places(values: Sequence[str]) -> dict[str, float]:
    """Where each x lies: at its number, or in order of appearance where one is none."""
    distinct = list(dict.fromkeys(values))
    try:
        numbers = [float(value) for value in distinct]
    except ValueError:
        numbers = []
    if not numbers or not np.isfinite(numbers).all():
        return {value: float(place) for place, value in enumerate(distinct)}
    return dict(sorted(zip(distinct, numbers, strict=True), key=lambda pair: pair[1]))


def _limits(places: Sequence[float], span: float) -> tuple[float, float]:
    return (min(places, default=0) - 0.1 * span, max(places, default=0) + 0.1 * span)


def _caption(found: Mapping[str, Any]) -> str:
    left = len(found["lines"]) - MOST
    return found["title"] + (f" (the first {MOST} lines; {left} more are in the table)" if left > 0 else "")
