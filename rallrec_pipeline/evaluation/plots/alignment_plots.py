"""Plots of the report on alignment as PNG bytes, each one panel, so that a phone shows it at full width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.plots.canvas import (
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rallrec_pipeline.evaluation.measures.maps import Categories, Map, Maps

DPI = 110
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, "#9C7A3C")  # of categories, the commonest first
OTHER = "#A9AFB6"
_CURVES = {"fitted": ("fitted items", BLUE), "held_out": ("held-out items", VERMILION)}
_LINE = 44  # characters

Report = Mapping[str, Any]


def measures_plots(report: Report) -> dict[str, bytes]:
    """What held-out items show, caption -> PNG: recall of the own collaborative vector, and the cosines to it."""
    return {
        "How often an item's own collaborative vector is among the K nearest to its projected text": _recall(report),
        "Cosines of projected text and collaborative vectors": _cosines(report),
    }


def maps_plots(maps: Mapping[str, Maps], category: Categories) -> dict[str, bytes]:
    """By caption: text and collaborative vectors each on a map of its own, then both on one map after alignment."""
    plots = {}
    for name, found in maps.items():
        plots[f"{name} before: text vectors"] = _map(found.text, category)
        plots[f"{name} before: collaborative vectors"] = _map(found.collaborative, category)
        plots[f"{name} after: projected text"] = _map(found.after, category, found.is_held_out, 0)
        plots[f"{name} after, same map: collaborative vectors"] = _map(found.after, category, found.is_held_out, 1)
    return plots


def _recall(report: Report) -> bytes:
    figures, why = report["figures"], report["measured"]["why"]
    if figures:
        why = figures["fitted"]["not_defined"].get("recall", "")
    if why:
        return _note(f"not defined, because {why}")
    figure, axes = canvas(5.2, 3.7)
    for name, (label, colour) in _CURVES.items():
        depths, shares = np.array(figures[name]["recall"]).T
        axes.plot(depths, 100 * shares, color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    chance = 100 * depths / report["measured"]["items"]
    axes.plot(depths, chance, color=INK, linewidth=1.2, linestyle=(0, (2, 3)), label="chance")
    axes.set(xscale="log", ylim=(-3, 103))
    axes.set_xticks(depths[:: max(1, -(-len(depths) // 6))])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.minorticks_off()
    axes.legend(loc=(0.03, 0.55), fontsize=9, frameon=False)
    _dress(axes, "K", "% of the items")
    return png(figure, DPI)


def _cosines(report: Report) -> bytes:
    figures = report["figures"]
    if not figures:
        return _note(f"not defined, because {report['measured']['why']}")
    figure, axes = canvas(5.2, 3.7)
    edges = np.linspace(-1, 1, len(figures["fitted"]["histogram"]) + 1)
    others = _percent(figures["held_out"]["histogram_others"])
    axes.stairs(others, edges, fill=True, color=OTHER, label="held-out items, to others'")
    for name, (label, colour) in _CURVES.items():
        own = _percent(figures[name]["histogram"])
        axes.stairs(own, edges, color=colour, linewidth=1.8, label=f"{label}, to their own")
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    _dress(axes, "cosine", "% of the pairs")
    return png(figure, DPI)


def _map(found: Map, category: Categories, ringed: NDArray[np.bool_] | None = None, half: int | None = None) -> bytes:
    """One map; of one that two kinds of vectors share the first or the second `half`, at the same places."""
    if found.places is None:
        return _note(f"not drawn, because {found.why}")
    figure, axes = canvas(5.2, 4.6)
    axes.set(xticks=[], yticks=[])  # only nearness means something
    axes.spines[["top", "right", "left", "bottom"]].set(visible=True, color=GRID)
    low, high = found.places.min(axis=0), found.places.max(axis=0)
    margin = 0.04 * (high - low)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    places = found.places if half is None else found.places[half * len(found.rows) :][: len(found.rows)]
    _scatter(axes, places, category, found.rows, np.zeros(len(found.rows), np.bool_) if ringed is None else ringed)
    return png(figure, DPI)


def _scatter(
    axes: Axes, places: NDArray[np.float32], category: Categories, rows: NDArray[np.int64], ringed: NDArray[np.bool_]
) -> None:
    """Points of the rarer categories lie above those of the commoner ones, ringed ones above all."""
    shown = {-1: OTHER if category.names else BLUE} | dict(enumerate(COLOURS[: len(category.names)]))
    codes = category.codes[rows]
    for code, colour in shown.items():
        x, y = places[(codes == code) & ~ringed].T
        axes.scatter(x, y, s=13, color=colour, alpha=0.75, linewidths=0, zorder=2)
        x, y = places[(codes == code) & ringed].T
        axes.scatter(x, y, s=22, color=colour, alpha=0.95, edgecolors=INK, linewidths=0.8, zorder=3)


def _percent(counts: Sequence[int]) -> NDArray[np.float64]:
    values = np.array(counts, np.float64)
    return 100 * values / max(1.0, values.sum())


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y", color=GRID, linewidth=0.7, zorder=0)


def _note(text: str) -> bytes:
    """A small picture that says why there is no plot."""
    figure, axes = canvas(5.2, 1.1)
    axes.set_axis_off()
    axes.text(0.5, 0.5, plain(fill(text, _LINE)), ha="center", va="center", fontsize=11, color=INK)
    return png(figure, DPI)
