"""Plots of a dataset's profile (see `profile_dataset`) as PNG bytes, below 100 KB each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from rallrec_pipeline.evaluation.plots.canvas import (
    BLUE,
    GREEN,
    GRID,
    INK,
    ORANGE,
    SKY,
    VERMILION,
    canvas,
    panels,
    plain,
    png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter

DPI = 90  # many panels and bars: a picture also lies in Dagster's database
STEP_LINE = 48  # characters of a line of a step's name
_SPLITS = {"valid": ("validation", ORANGE), "test": ("test", VERMILION)}

Profile = Mapping[str, Any]


def dataset_plots(profile: Profile) -> dict[str, bytes]:
    """All plots: caption -> PNG."""
    return {
        "Ratings, time, popularity of items and length of histories": overview_plot(profile),
        "From the raw file to the samples": funnel_plot(profile),
    }


def overview_plot(profile: Profile) -> bytes:
    """Four panels: rating histogram, ratings over time, popularity of items, length of histories."""
    from matplotlib.patches import Patch

    figure, (ratings, time, popularity, history) = panels(9.6, 6.8, 2, 2)
    _ratings_panel(ratings, profile["ratings"])
    _time_panel(time, profile["time"])
    _popularity_panel(popularity, profile["popularity"])
    _history_panel(history, profile["history_length"])
    handles = [
        Patch(color=colour, label=f"{name}: {profile[key]['interactions']:,} ratings")
        for key, name, colour in (("raw", "accepted from the file", SKY), ("core", "under the protocol", BLUE))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return png(figure, DPI)


def funnel_plot(profile: Profile) -> bytes:
    """A bar for each step: the rows that remain, and those that left or joined."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    steps = profile["funnel"][::-1]
    figure, axes = canvas(9.0, 1.3 + 0.42 * len(steps))
    rows = np.arange(len(steps))
    dropped, added, after = (np.array([step[key] for step in steps]) for key in ("dropped", "added", "rows_out"))
    axes.barh(rows, after - added, height=0.68, color=BLUE, zorder=2)
    axes.barh(rows, dropped, left=after - added, height=0.68, color=VERMILION, zorder=2)
    axes.barh(rows, added, left=after - added, height=0.68, color=GREEN, zorder=2)
    axes.set_yticks(rows, [_lines(step["step"]) for step in steps])
    most = max(1, *(after + dropped))
    edge = most * 1.4  # the numbers stand in a column at the edge
    for row, step in enumerate(steps):
        axes.text(edge, row, _change(step), va="center", ha="right", fontsize=9, color=INK)
    axes.set_xlim(0, edge)
    axes.set_xticks([tick for tick in MaxNLocator(4, integer=True).tick_values(0, most) if tick <= most])
    axes.xaxis.set_major_formatter(_thousands())
    axes.set_xlabel("rows after the step, and its change")
    axes.grid(axis="x", color=GRID, linewidth=0.7, zorder=0)
    kinds = ((BLUE, "rows that remain", True), (VERMILION, "leave", dropped.any()), (GREEN, "join", added.any()))
    handles = [Patch(color=colour, label=label) for colour, label, there in kinds if there]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
    return png(figure, DPI)


def _lines(name: str) -> str:
    """A step's name on one line or two."""
    return plain(fill(shorten(name, 2 * STEP_LINE, placeholder=" …"), STEP_LINE))


def _change(step: Mapping[str, Any]) -> str:
    changes = [f"−{step['dropped']:,}" if step["dropped"] else "", f"+{step['added']:,}" if step["added"] else ""]
    change = " ".join(part for part in changes if part)
    return f"{step['rows_out']:,} ({change})" if change else f"{step['rows_out']:,}"


def _ratings_panel(axes: Axes, ratings: Mapping[str, Any]) -> None:
    values = ratings["values"]
    places = np.arange(len(values))
    axes.bar(places - 0.2, _percent(ratings["raw"]), width=0.4, color=SKY, zorder=2)
    axes.bar(places + 0.2, _percent(ratings["core"]), width=0.4, color=BLUE, zorder=2)
    disliked = sum(value <= ratings["like_above"] for value in values)
    if 0 < disliked < len(values):
        axes.axvline(disliked - 0.5, color=INK, linewidth=0.9, linestyle=(0, (2, 3)))
    _ticks(axes, places, [f"{value:g}" for value in values])
    title = f"Ratings (liked: above {ratings['like_above']:g})"
    _dress(axes, title, "rating", "% of the ratings")


def _time_panel(axes: Axes, time: Mapping[str, Any] | None) -> None:
    if time is None:
        _note(axes, "Ratings over time", "the source has no times")
        return
    axes.stairs(time["raw"], fill=True, color=SKY, zorder=2)
    if time["core"] is not None:
        axes.stairs(time["core"], color=BLUE, linewidth=1.5, zorder=3)
    for split, day in time["borders"].items():
        name, colour = _SPLITS[split]
        place = _place(day, time["periods"][0], time["unit"])
        axes.axvline(place, color=colour, linewidth=1.5, linestyle="--", label=f"{name} from {day}", zorder=4)
    _ticks(axes, np.arange(len(time["periods"])) + 0.5, time["periods"], most=5)
    axes.set_ylim(0, max(1, *time["raw"], *(time["core"] or ())) * (1.3 if time["borders"] else 1.05))
    if time["borders"]:
        axes.legend(loc="upper left", fontsize=8, framealpha=0.9, edgecolor="none", ncols=2)
    axes.yaxis.set_major_formatter(_thousands())
    _dress(axes, f"Ratings over time, {time['first']} to {time['last']}", "", f"ratings per {time['unit']}")


def _popularity_panel(axes: Axes, popularity: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    if not popularity["raw"]["ranks"]:
        _note(axes, "Popularity of items", "there are no ratings")
        return
    for key, colour, width in (("raw", SKY, 4.0), ("core", BLUE, 1.6)):  # the wide line shows below the other
        curve = popularity[key]
        marker = "o" if len(curve["ranks"]) < 3 else None  # one point makes no line
        axes.plot(curve["ranks"], curve["interactions"], color=colour, linewidth=width, marker=marker, zorder=2)
    axes.set(xscale="log", yscale="log")
    axes.tick_params(which="minor", length=0)
    _dress(axes, "Popularity of items", "rank of the item", "ratings of the item")
    axes.grid(axis="x", color=GRID, linewidth=0.7, zorder=0)


def _history_panel(axes: Axes, history: Mapping[str, Any]) -> None:
    if not history["samples"]:
        _note(axes, "Length of histories", "there are no samples")
        return
    edges = history["edges"]
    names = [f"{low}" if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(edges)]
    places = np.arange(len(names))
    axes.bar(places, _percent(history["samples"]), width=0.85, color=BLUE, zorder=2)
    _ticks(axes, places, names, most=6)
    found = history["quantiles"]
    title = f"Length of histories (median {found['median']:,}, 90% up to {found['p90']:,})"
    _dress(axes, title, "earlier ratings of the user", "% of the samples")


def _percent(counts: Sequence[int]) -> Any:
    values = np.array(counts, float)
    return 100 * values / max(1.0, values.sum())


def _place(day: str, first: str, unit: str) -> float:
    """Where `day` lies on the axis of periods that begins with the period `first`."""
    moment = date.fromisoformat(day)
    if unit == "year":
        return moment.year - int(first) + (moment.timetuple().tm_yday - 1) / 366
    year, month = first.split("-")
    return 12 * (moment.year - int(year)) + moment.month - int(month) + (moment.day - 1) / 31


def _ticks(axes: Axes, places: Any, names: Sequence[str], most: int = 12) -> None:
    """At most `most` evenly spaced names below the axis."""
    chosen = slice(None, None, max(1, -(-len(names) // most)))
    axes.set_xticks(places[chosen], names[chosen])


def _thousands() -> FuncFormatter:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}")


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y", color=GRID, linewidth=0.7, zorder=0)


def _note(axes: Axes, title: str, text: str) -> None:
    """A panel without a plot."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, color=INK, transform=axes.transAxes)
