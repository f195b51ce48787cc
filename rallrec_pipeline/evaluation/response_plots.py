"""Figures 2, 3, 6 and 7 of RALLRec+ and the cascade, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.canvas import GRID, ORANGE, WIDTH, canvas, panels, svg
from rallrec_pipeline.evaluation.lines import legend_below, named_lines
from rallrec_pipeline.evaluation.metrics import HIGHER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Told = Mapping[str, Any]
_OF_CASCADE = {"auc": "AUC", "uauc": "UAUC", "log_loss": "log loss"}


def response_plots(told: Told) -> dict[str, bytes]:
    """Caption -> SVG of what `responses_told` gives; one without points is left out."""
    responses, plots = told["responses"], dict[str, bytes]()
    by_length = {name: one["by_length"] for name, one in responses.items() if one["by_length"]}
    if by_length:
        rows = min(point["n"] for points in by_length.values() for point in points)
        caption = (
            f"Accuracy by the length of the responses, in fifths of the rows (figure 2 of RALLRec+); {_error(rows)}"
        )
        plots[caption] = _over_length(by_length, responses)
    by_variance = {name: one["by_variance"]["points"] for name, one in responses.items()}
    if any(by_variance.values()):
        width = max(one["by_variance"]["window"] for one in responses.values())
        caption = (
            f"Accuracy by how far the responses are apart, in a sliding window of {width:,} rows at most (figure 3); "
            f"{_error(width)}"
        )
        plots[caption] = _over_variance(by_variance, responses)
    for name, sweep in told["sweeps"].items():
        plots[f"{sweep['title']}: over alpha and epsilon (figures 6 and 7), on test rows; {name}"] = _sweep(sweep)
    for cascade in told["cascades"].values():
        asked = (
            f"asked in order of {cascade['order']}, {cascade['curve'][-1]['tokens_per_million'] / 1e6:,.0f} tokens each"
        )
        plots[f"{cascade['title']}: over the share of rows {asked}; the dashed line is the knee of validation rows"] = (
            _cascade(cascade)
        )
    return plots


def _error(rows: int) -> str:
    """The standard error of an accuracy on so many rows, at most."""
    return f"a point of {rows:,} rows has a standard error of up to {0.5 / max(1, rows) ** 0.5:.2f}"


def _over_length(by_name: Mapping[str, Sequence[Told]], responses: Told) -> bytes:
    lines = named_lines([responses[name]["title"] for name in by_name])
    figure, axes = canvas(WIDTH, 3.2 + 0.2 * len(lines))
    for line, points in zip(lines, by_name.values(), strict=False):
        middles = [(point["low"] + point["high"]) / 2 for point in points]
        _draw(axes, middles, [point["accuracy"] for point in points], line)
    axes.set(xlabel="new tokens of a response", ylabel="accuracy")
    legend_below(axes)
    return svg(figure)


def _over_variance(by_name: Mapping[str, Sequence[Told]], responses: Told) -> bytes:
    lines = named_lines([responses[name]["title"] for name in by_name])
    figure, axes = canvas(WIDTH, 3.2 + 0.2 * len(lines))
    for line, points in zip(lines, by_name.values(), strict=False):
        axes.plot(
            [point["variance"] for point in points],
            [point["accuracy"] for point in points],
            color=line.colour,
            label=line.label,
        )
    axes.grid(color=GRID, linewidth=0.7)
    axes.set(xlabel="median variance of P(yes) in the window", ylabel="accuracy")
    legend_below(axes)
    return svg(figure)


def _sweep(sweep: Told) -> bytes:
    figure, every = panels(WIDTH, 4.6, 2, 2)
    for row, measure in enumerate(("auc", "log_loss")):
        for column, setting in enumerate(("alpha", "epsilon")):
            axes = every[2 * row + column]
            values = [point[setting] for point in sweep[setting]]
            axes.plot(values, [point[measure] for point in sweep[setting]], "o-", ms=4, color=ORANGE)
            axes.axvline(sweep["in_force"][setting], color=GRID, linewidth=1.2, linestyle="--", zorder=0)
            if setting == "epsilon":
                axes.set_xscale("log")
            axes.set(xlabel=setting, ylabel=_OF_CASCADE[measure])
            axes.grid(color=GRID, linewidth=0.7)
            axes.tick_params(labelsize=7)
    return svg(figure)


def _cascade(cascade: Told) -> bytes:
    figure, every = panels(WIDTH, 6.0, len(_OF_CASCADE), 1)
    shares = [point["share"] for point in cascade["curve"]]
    for axes, (measure, title) in zip(every, _OF_CASCADE.items(), strict=True):
        values = np.array([np.nan if point[measure] is None else point[measure] for point in cascade["curve"]])
        axes.plot(shares, values, "o-", ms=3.5, color=ORANGE)
        axes.axvline(cascade["knee"], color=GRID, linewidth=1.4, linestyle="--", zorder=0)
        better = "higher" if measure in HIGHER_IS_BETTER else "lower"
        axes.set(ylabel=f"{title} ({better} is better)")
        axes.grid(color=GRID, linewidth=0.7)
    every[-1].set(xlabel="share of rows that the LLM is asked about")
    return svg(figure)


def _draw(axes: Axes, x: Sequence[float], y: Sequence[float], line: Any) -> None:
    axes.plot(x, y, color=line.colour, marker=line.marker, label=line.label)
    axes.grid(color=GRID, linewidth=0.7)
