"""Text from data within Markdown that the UI or a page shows: it must not become markup, a new line or a new cell."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

_MARKS = {ord(mark): f"\\{mark}" for mark in r"\`*_[]#|~"}
_SHORT = 12  # characters of a hash in a table for people; twice as many are still shown whole


def plain(text: str) -> str:
    """`text` on one line, every mark of Markdown or HTML made harmless."""
    return escape(" ".join(text.split()), quote=False).translate(_MARKS)


def code(value: object) -> str:
    """`value` between backticks; none is a dash."""
    text = " ".join(str(value if value not in (None, "") else "–").split())
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"


def short(value: object) -> str:
    """As `code`, cut where it is long."""
    text = str(value if value is not None else "")
    return code(text if len(text) <= 2 * _SHORT else text[:_SHORT] + "…")


def picture(caption: str, png: bytes) -> str:
    """A PNG within the text. Dagster's database stores it several times over, so one for an asset is enough."""
    return f"![{plain(caption)}](data:image/png;base64,{b64encode(png).decode()})"


def cell(text: str) -> str:
    """Text without other marks within one cell."""
    return text.replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Iterable[str]], figures: bool = False) -> list[str]:
    """Lines of a table, its cells Markdown already; with `figures` all columns but the first stand at the right."""
    ruler = "|---|" + ("---:|" if figures else "---|") * (len(header) - 1)
    head, *body = (f"| {' | '.join(row)} |" for row in (header, *rows))
    return [head, ruler, *body]
