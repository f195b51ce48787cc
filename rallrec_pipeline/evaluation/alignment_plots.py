"""Plots of the report on alignment as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
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
    panels,
    plain,
    png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rallrec_pipeline.evaluation.maps import Categories, Map, Maps

DPI = 90
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, INK)  # of categories, the commonest first
OTHER = "#B8BDC4"
MEASURED = "What the projector knows of items it was not fitted on"
_CURVES = {"fitted": ("fitted items", BLUE), "held_out": ("held-out items", VERMILION)}

Report = Mapping[str, Any]


def alignment_plots(report: Report, maps: Mapping[str, Maps], category: Categories) -> dict[str, bytes]:
    """All plots, caption -> PNG: the measures first, then a plot for each kind of map."""
    plots = {MEASURED: measures_plot(report)}
    for name, found in maps.items():
        plots[f"{name}: text and collaborative vectors before and after alignment"] = maps_plot(found, category)
    return plots


def measures_plot(report: Report) -> bytes:
    """Two panels: recall of the own collaborative vector by depth, and the cosines to it."""
    figure, (recall, cosines) = panels(9.6, 3.7, 1, 2)
    figures = report["figures"]
    if not figures:
        for axes, title in ((recall, "Recall"), (cosines, "Cosines")):
            _note(axes, title, f"not defined, because {report['measured']['why']}")
        return png(figure, DPI)
    _recall_panel(recall, figures, report["measured"]["items"])
    _cosines_panel(cosines, figures)
    return png(figure, DPI)


def maps_plot(maps: Maps, category: Categories) -> bytes:
    """Four panels: text and collaborative vectors, each on its own map; below, both on one map after alignment."""
    from matplotlib.lines import Line2D

    figure, (text, collaborative, aligned, goals) = panels(9.6, 9.4, 2, 2)
    _map_panel(text, maps.text, category, "Before: text vectors")
    _map_panel(collaborative, maps.collaborative, category, "Before: collaborative vectors")
    for axes, half, title in (
        (aligned, 0, "After: projected text"),
        (goals, 1, "After: collaborative vectors, same map"),
    ):
        _after_panel(axes, maps, category, half, title)
    names = [*category.names, "other or none"] if category.names else ["items"]
    shown = [*COLOURS[: len(category.names)], OTHER if category.names else BLUE]
    handles = [_dot(Line2D, colour, plain(name)) for colour, name in zip(shown, names, strict=True)]
    handles.append(_dot(Line2D, "white", "held out (after)", edge=INK))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return png(figure, DPI)


def _recall_panel(axes: Axes, figures: Mapping[str, Any], items: int) -> None:
    if figures["fitted"]["recall"] is None:
        _note(axes, "Recall", f"not defined, because {figures['fitted']['not_defined']['recall']}")
        return
    for name, (label, colour) in _CURVES.items():
        depths, shares = np.array(figures[name]["recall"]).T
        axes.plot(depths, 100 * shares, color=colour, marker="o", markersize=4, linewidth=1.8, label=label)
    axes.plot(depths, 100 * depths / items, color=INK, linewidth=1.2, linestyle=(0, (2, 3)), label="chance")
    axes.set(xscale="log", ylim=(-3, 103))
    axes.set_xticks(depths[:: max(1, -(-len(depths) // 6))])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.minorticks_off()
    axes.legend(loc="center right", fontsize=9, frameon=False)
    _dress(axes, "The item's own collaborative vector is among the K nearest", "K", "% of the items")


def _cosines_panel(axes: Axes, figures: Mapping[str, Any]) -> None:
    edges = np.linspace(-1, 1, len(figures["fitted"]["histogram"]) + 1)
    others = _percent(figures["held_out"]["histogram_others"])
    axes.stairs(others, edges, fill=True, color=OTHER, label="held-out items, to others'")
    for name, (label, colour) in _CURVES.items():
        axes.stairs(
            _percent(figures[name]["histogram"]), edges, color=colour, linewidth=1.8, label=f"{label}, to their own"
        )
    axes.legend(loc="upper left", fontsize=9, frameon=False)
    _dress(axes, "Cosine of projected text to collaborative vectors", "cosine", "% of the pairs")


def _map_panel(axes: Axes, found: Map, category: Categories, title: str) -> None:
    _frame(axes, title)
    if found.places is None:
        _note(axes, title, f"not drawn, because {found.why}")
        return
    _scatter(axes, found.places, category.codes[found.rows], category, np.zeros(len(found.rows), np.bool_))


def _after_panel(axes: Axes, maps: Maps, category: Categories, half: int, title: str) -> None:
    _frame(axes, title)
    if maps.after.places is None:
        _note(axes, title, f"not drawn, because {maps.after.why}")
        return
    places, items = maps.after.places, len(maps.after.rows)
    span = np.stack([places.min(axis=0), places.max(axis=0)])
    margin = 0.04 * (span[1] - span[0])
    axes.set_xlim(span[0, 0] - margin[0], span[1, 0] + margin[0])
    axes.set_ylim(span[0, 1] - margin[1], span[1, 1] + margin[1])
    own = places[half * items : (half + 1) * items]
    _scatter(axes, own, category.codes[maps.after.rows], category, maps.is_held_out)


def _scatter(axes: Axes, places: Any, codes: Any, category: Categories, ringed: Any) -> None:
    """Points of the rarer categories lie above those of the commoner ones, ringed ones above all."""
    shown = {-1: OTHER if category.names else BLUE} | dict(enumerate(COLOURS[: len(category.names)]))
    for code, colour in shown.items():
        x, y = places[(codes == code) & ~ringed].T
        axes.scatter(x, y, s=11, color=colour, alpha=0.7, linewidths=0, zorder=2)
        x, y = places[(codes == code) & ringed].T
        axes.scatter(x, y, s=20, color=colour, alpha=0.9, edgecolors=INK, linewidths=0.7, zorder=3)


def _dot(line: Any, colour: str, label: str, edge: str | None = None) -> Any:
    edge = edge or colour
    return line([], [], linestyle="", marker="o", markersize=6, color=colour, markeredgecolor=edge, label=label)


def _percent(counts: Sequence[int]) -> Any:
    values = np.array(counts, float)
    return 100 * values / max(1.0, values.sum())


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y", color=GRID, linewidth=0.7, zorder=0)


def _frame(axes: Axes, title: str) -> None:
    """A map has no axes: only nearness means something."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(xticks=[], yticks=[])
    axes.spines[["top", "right", "left", "bottom"]].set(visible=True, color=GRID)


def _note(axes: Axes, title: str, text: str) -> None:
    """A panel without a plot."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, fill(text, 44), ha="center", va="center", fontsize=9, color=INK, transform=axes.transAxes)
