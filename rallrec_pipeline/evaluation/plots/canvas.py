"""What all plots share: the colour-blind-safe palette of Okabe and Ito, the look of axes, PNG and SVG bytes."""

from __future__ import annotations

import re
from io import BytesIO, StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, SKY, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, GRID, FAINT, OTHER = "#333333", "#DDDDDD", "#999999", "#8A94A3"
_DARK = {INK: "#E6E9EE", GRID: "#323B47", FAINT: "#7A8594", BLUE: "#56B4E9", SKY: "#2A7FB0", GREEN: "#2CC59A"}
"""What each colour of an SVG is on a dark page; the others are seen on both."""
WIDTH = 4.8
"""Inches of a picture that a phone shows at three quarters of its size and a desktop beside another."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one plot."""
    figure, axes = panels(width, height, 1, 1)
    return figure, axes[0]


def panels(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with `rows` × `columns` plots, row by row.

    It is outside pyplot's global state, so that plots may be made from any thread.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    every = [figure.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]
    for axes in every:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(INK)
        axes.tick_params(length=0, labelsize=9, colors=INK)
        axes.xaxis.label.set(size=9, color=INK)
        axes.yaxis.label.set(size=9, color=INK)
    return figure, every


def plain(text: str) -> str:
    """Text from data on its lines, with dollar signs kept from starting a formula and nothing that XML forbids."""
    kept = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
    return kept.replace("$", r"\$")


def png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file whose colours follow a light or dark page; equal figures give equal bytes."""
    from matplotlib import rc_context

    buffer = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rallrec"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    drawn = re.sub(r'style="[^"]*"', _following, buffer.getvalue())
    return drawn.replace("<defs>", f"<style>{_colours()}</style>\n <defs>", 1).encode()


def _following(style: re.Match[str]) -> str:
    """A style whose colours are names that the page's scheme gives a value."""
    text = style.group()
    for colour in _DARK:
        text = text.replace(colour.lower(), f"var(--{colour[1:].lower()})")
    return text


def _colours() -> str:
    light, dark = (
        "".join(f"--{name[1:].lower()}:{value};" for name, value in pairs)
        for pairs in (zip(_DARK, _DARK, strict=True), _DARK.items())
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
