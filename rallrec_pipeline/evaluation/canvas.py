"""What all plots share: the colour-blind-safe palette of Okabe and Ito, the look of axes, PNG bytes."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, SKY, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, GRID = "#333333", "#DDDDDD"


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
        axes.tick_params(length=0, labelsize=9, colors=INK)
        axes.xaxis.label.set(size=9, color=INK)
        axes.yaxis.label.set(size=9, color=INK)
    return figure, every


def plain(text: str) -> str:
    """Text from data, with dollar signs kept from starting a formula."""
    return text.replace("$", r"\$")


def png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
