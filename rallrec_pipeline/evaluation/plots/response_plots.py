"""Figures 2, 3, 6, 7 and 9 of RALLRec+ and the cascade, each curve with its 95% band over users, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.measures.metrics import HIGHER_IS_BETTER
from rallrec_pipeline.evaluation.plots.canvas import BLUE, GRID, INK, ORANGE, WIDTH, canvas, panels, svg
from rallrec_pipeline.evaluation.plots.lines import Line, label, legend_below, named_lines
from rallrec_pipeline.evaluation.reports.wording import measure_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Told = Mapping[str, Any]
_OF_CASCADE = ("auc", "uauc", "log_loss")
_BAND = 0.16  # opacity


def response_plots(told: Told) -> dict[str, bytes]:
    """Caption -> SVG of what `responses_told` gives; one without points is left out."""
    responses, plots = told["responses"], dict[str, bytes]()
    by_length = {name: one["by_length"] for name, one in responses.items() if one["by_length"]}
    if by_length:
        caption = "Accuracy by the length of the responses, in fifths of the rows (figure 2 of RALLRec+)"
        plots[caption] = _over_length(by_length, responses)
    by_variance = {name: one["by_variance"]["points"] for name, one in responses.items()}
    if any(by_variance.values()):
        width = max(one["by_variance"]["window"] for one in responses.values())
        caption = (
            f"Accuracy by how far the responses are apart, in a sliding window of {width:,} rows at most (figure 3)"
        )
        plots[caption] = _over_variance(by_variance, responses)
    if any(one["seconds_per_response"] for one in responses.values()):
        plots[_LATENCY] = _latency(told)
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


_LATENCY = (
    "Seconds of a response (figure 9): the mean, and a line from the 10th to the 90th percentile, as they were written "
    "side by side on this machine; blue: a row of the LLM that does not think"
)


def _over_length(by_name: Mapping[str, Sequence[Told]], responses: Told) -> bytes:
    lines = named_lines([responses[name]["title"] for name in by_name])
    figure, axes = canvas(WIDTH, 3.2 + 0.2 * len(lines))
    for line, points in zip(lines, by_name.values(), strict=False):
        draw_curve(axes, [(point["low"] + point["high"]) / 2 for point in points], points, "accuracy", line)
    axes.set(xlabel="new tokens of a response", ylabel="accuracy")
    legend_below(axes)
    return svg(figure)


def _over_variance(by_name: Mapping[str, Sequence[Told]], responses: Told) -> bytes:
    lines = named_lines([responses[name]["title"] for name in by_name])
    figure, axes = canvas(WIDTH, 3.2 + 0.2 * len(lines))
    for line, points in zip(lines, by_name.values(), strict=False):
        draw_curve(axes, [point["variance"] for point in points], points, "accuracy", line, marker=None)
    axes.set(xlabel="median variance of P(yes) in the window", ylabel="accuracy")
    legend_below(axes)
    return svg(figure)


def _latency(told: Told) -> bytes:
    """Figure 9: a bar for each way to ask the reasoner, with how many times it takes as long as the general LLM."""
    general = told["general"]
    known = [one for one in told["responses"].values() if one["seconds_per_response"]]
    bars = [(general["title"], general["seconds"], None)] if general else []
    bars += [(one["title"], one["seconds_per_response"], one["seconds_percentiles"]) for one in known]
    figure, axes = canvas(WIDTH, 0.9 + 0.5 * len(bars))
    for place, (_, seconds, spread) in enumerate(bars):
        axes.barh(place, seconds, height=0.55, color=ORANGE if spread else BLUE)
        if spread:
            axes.plot([spread[0], spread[2]], [place, place], color=INK, linewidth=1.2)
        times = f", {seconds / general['seconds']:.1f} times" if spread and general else ""
        right = max(seconds, spread[2] if spread else 0)
        axes.annotate(
            f"{seconds:.3g} s{times}",
            (right, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_yticks(range(len(bars)), [label(title, 26) for title, _, _ in bars], fontsize=8)
    axes.set(xlabel="seconds")
    axes.margins(x=0.4)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return svg(figure)


def _sweep(sweep: Told) -> bytes:
    figure, every = panels(WIDTH, 4.6, 2, 2)
    for row, measure in enumerate(("auc", "log_loss")):
        for column, setting in enumerate(("alpha", "epsilon")):
            axes, points = every[2 * row + column], sweep[setting]
            draw_curve(axes, [point[setting] for point in points], points, measure, _ALONE)
            axes.axvline(sweep["in_force"][setting], color=GRID, linewidth=1.2, linestyle="--", zorder=0)
            if setting == "epsilon":
                axes.set_xscale("log")
            axes.set(xlabel=setting, ylabel=measure_title(measure))
            axes.tick_params(labelsize=7)
    return svg(figure)


def _cascade(cascade: Told) -> bytes:
    figure, every = panels(WIDTH, 6.0, len(_OF_CASCADE), 1)
    points = cascade["curve"]
    for axes, measure in zip(every, _OF_CASCADE, strict=True):
        draw_curve(axes, [point["share"] for point in points], points, measure, _ALONE)
        axes.axvline(cascade["knee"], color=GRID, linewidth=1.4, linestyle="--", zorder=0)
        better = "higher" if measure in HIGHER_IS_BETTER else "lower"
        axes.set(ylabel=f"{measure_title(measure)} ({better} is better)")
    every[-1].set(xlabel="share of rows that the LLM is asked about")
    return svg(figure)


_ALONE = Line("", "", ORANGE, "-", "o")


def draw_curve(
    axes: Axes, x: Sequence[float], points: Sequence[Told], measure: str, line: Line, marker: str | None = "o"
) -> None:
    """A measure over `x` with its 95% band; a point without a figure or an interval leaves a gap."""
    none = [None, None]
    values, low, high = (
        np.array([np.nan if value is None else value for value in column], dtype=np.float64)
        for column in (
            [point[measure] for point in points],
            *([(point.get(f"{measure}_ci") or none)[end] for point in points] for end in (0, 1)),
        )
    )
    look = line.look() | {"marker": marker and line.marker, "label": line.label or None}
    axes.plot(x, values, **look)
    axes.fill_between(x, low, high, color=line.colour, alpha=_BAND, linewidth=0)
    axes.grid(color=GRID, linewidth=0.7)
