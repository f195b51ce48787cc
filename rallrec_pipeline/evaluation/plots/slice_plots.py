"""How well methods do where data are few: AUC and UAUC over the slices of the test rows, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.plots.canvas import GRID, WIDTH, panels, svg
from rallrec_pipeline.evaluation.plots.lines import Line, legend_below, lines_of
from rallrec_pipeline.evaluation.reports.wording import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = {"auc": "AUC", "uauc": "UAUC, within a user"}
_FEWEST = 20  # rows of a slice: intervals of fewer reach from 0 to 1, and nothing else could be read
_METHODS = 5  # with their intervals beside each other
_SPREAD = 0.6  # of the way to the next slice, over which the methods stand beside each other


def slice_plots(report: Report) -> dict[str, bytes]:
    """Caption -> SVG, one for each slicing that has slices with an AUC."""
    lines, found = lines_of(report, _METHODS), {}
    for told in report["slices"].values():
        if any(has_figures(part) for part in told["slices"]):
            drawn = [part for part in told["slices"] if part["n"] >= _FEWEST]
            drawn = drawn if any(map(has_figures, drawn)) else told["slices"]
            left_out = f"; those of fewer than {_FEWEST} are not drawn" if len(drawn) < len(told["slices"]) else ""
            found[f"By {told['title']}; under each slice its number of test rows{left_out}"] = slice_plot(drawn, lines)
    return found


def unsliced(report: Report) -> Iterator[str]:
    """Why a slicing has no picture."""
    for told in report["slices"].values():
        if told["not_defined"]:
            yield f"By {told['title']}: not defined, because {told['not_defined']}"
        elif not any(has_figures(part) for part in told["slices"]):
            yield f"By {told['title']}: not defined, because no slice has both liked and disliked rows"


def has_figures(part: Mapping[str, Any]) -> bool:
    """Whether a slice has an AUC."""
    return any(figures["auc"] is not None for figures in part["methods"].values())


def slice_plot(slices: Sequence[Mapping[str, Any]], lines: Sequence[Line]) -> bytes:
    """AUC above UAUC, the slices from left to right, with 95% intervals over users."""
    figure, every = panels(WIDTH, 4.6 + 0.2 * len(lines), len(_SHOWN), 1)
    for axes, (measure, title) in zip(every, _SHOWN.items(), strict=True):
        for place, line in enumerate(lines):
            shift = _SPREAD * ((place + 0.5) / len(lines) - 0.5)
            _draw(axes, [part["methods"][line.name] for part in slices], measure, line, shift)
        axes.set_xticks(range(len(slices)), [f"{part['slice'].replace('-', '–')}\n{part['n']:,}" for part in slices])
        axes.set(ylabel=title, xlim=(-0.5, len(slices) - 0.5))
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color=GRID, linewidth=0.7)
    legend_below(every[0])
    return svg(figure)


def _draw(axes: Axes, figures: Sequence[Mapping[str, Any]], measure: str, line: Line, shift: float) -> None:
    known = [(place, found) for place, found in enumerate(figures) if found[measure] is not None]
    values = np.array([found[measure] for _, found in known])
    draw_points(
        axes, np.array([place + shift for place, _ in known]), values, [f[f"{measure}_ci"] for _, f in known], line
    )


def draw_points(axes: Axes, x: Any, values: Any, bounds: Sequence[Sequence[float | None]], line: Line) -> None:
    """A line through points with their intervals; a bound that is None adds no bar."""
    if not len(values):
        return
    low, high = (
        np.array([value if pair[end] is None else pair[end] for pair, value in zip(bounds, values, strict=True)])
        for end in (0, 1)
    )
    error = np.maximum(0, [values - low, high - values])
    axes.errorbar(x, values, yerr=error, label=line.label, elinewidth=0.9, capsize=2, **line.look())
