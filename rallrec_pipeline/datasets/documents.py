"""A JSON document that holds records, instead of one record a line: a list, an object with a list, objects in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MOST = 1 << 27  # characters of a document; it is held in memory
BEGINS = re.compile(r'\s*(\[\s*\{|\{\s*"|\{\s*$)')
LIST = re.compile(r"\[\s*(?=\{)")
GAP = re.compile(r"[\s,]*")

_decoder = json.JSONDecoder(parse_constant=lambda _: None)


def is_begun(text: str) -> bool:
    """Whether a text begins as such a document does."""
    return BEGINS.match(text) is not None


Placed = list[tuple[int, str]]
"""Values as they are written, each after the place where it begins."""


def records_of(text: str) -> Placed:
    """The entries of a document; none where there is no such document.

    Those of its longest list that begins with an object; else what follows one another after an object.
    """
    try:
        first, end = _decoder.raw_decode(text, _next(text, 0))
    except (ValueError, RecursionError):
        return []
    if _next(text, end) == len(text):
        return max(_lists(text), key=len, default=[])
    found, end = _values(text, 0)
    return found if isinstance(first, dict) and end == len(text) else []


def objects_in_a_row(text: str) -> list[str]:
    """The values that follow one another in a text, each as it is written, as far as they can be read."""
    return [value for _, value in _values(text, 0)[0]]


def _lists(text: str) -> Iterator[Placed]:
    """The lists within a document that begin with an object; those within their entries are no lists of their own."""
    place = 0
    while (begun := LIST.search(text, place)) is not None:
        found, place = _values(text, begun.end())
        yield found


def _values(text: str, place: int) -> tuple[Placed, int]:
    """The values from `place` on, one after the other, and where they end."""
    found: Placed = []
    while (place := _next(text, place)) < len(text) and text[place] != "]":
        try:
            _, end = _decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        found.append((place, text[place:end]))
        place = end
    return found, place


def _next(text: str, place: int) -> int:
    """Where the next value begins."""
    gap = GAP.match(text, place)
    return gap.end() if gap else place
