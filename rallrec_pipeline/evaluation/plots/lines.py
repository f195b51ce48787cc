"""Which methods a crowded plot shows, and how each is drawn: the same in every plot of a page."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.evaluation.plots.canvas import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION, plain
from rallrec_pipeline.evaluation.reports.evaluation_report import MAIN
from rallrec_pipeline.evaluation.reports.wording import Report, ranked, reference_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8
"""Methods of one plot."""
_LABEL = 52  # characters of a line in a legend
_REFERENCE = ("-", "s", ORANGE)
_STYLES = (
    ("-", "o", BLUE),
    ("--", "^", GREEN),
    ("-.", "D", VERMILION),
    (":", "v", PURPLE),
    ("--", "P", SKY),
    ("-.", "X", INK),
    (":", "*", BLUE),
    ("--", "<", VERMILION),
    ("-", ">", PURPLE),
)


@dataclass(frozen=True)
class Line:
    """One method, or one line of a figure, as it is drawn."""

    name: str
    label: str
    colour: str
    style: str
    marker: str

    def look(self) -> dict[str, Any]:
        """How `axes.plot` and `axes.errorbar` draw it."""
        return {"color": self.colour, "linestyle": self.style, "marker": self.marker, "ms": 4, "linewidth": 1.5}


def lines_of(report: Report, most: int = MOST) -> list[Line]:
    """The reference, RALLRec, the best, the strongest without an LLM, then the first ones of the report.

    They are at most `most`, best first.
    """
    order = [name for name, _ in ranked(report)]
    reference = reference_of(report)
    first = [reference, MAIN, *order[:1], strongest_without_llm(report), *report["methods"]]
    chosen = [name for name in dict.fromkeys(first) if name in report["methods"]][:most]
    looks = iter(_STYLES)
    lines = []
    for name in sorted(chosen, key=order.index):
        style, marker, colour = _REFERENCE if name == reference else next(looks)
        lines.append(Line(name, label(report["methods"][name]["title"]), colour, style, marker))
    return lines


def named_lines(names: list[str]) -> list[Line]:
    """Lines that are no methods, at most `MOST`."""
    looks = zip(names[:MOST], _STYLES, strict=False)
    return [Line(name, label(name), colour, style, marker) for name, (style, marker, colour) in looks]


def strongest_without_llm(report: Report) -> str | None:
    """As the validation rows say; None where they say nothing."""
    known = {
        name: figures["validation_auc"]
        for name, figures in report["methods"].items()
        if figures["kind"] != "llm" and figures["validation_auc"] is not None
    }
    return max(known, key=lambda name: known[name]) if known else None


def label(title: str, width: int = _LABEL, lines: int = 2) -> str:
    """A title on at most so many lines, fit for matplotlib."""
    return plain("\n".join(wrap(title, width, max_lines=lines, placeholder=" …")))


def legend_below(axes: Axes) -> None:
    """A legend under the plot, a line each; none where nothing has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside lower left",
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            handlelength=3,
        )
