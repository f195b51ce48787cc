"""Cleaning of untrusted text (titles, profiles, LLM output) before it enters a prompt or a sentence."""

from __future__ import annotations

import json
import re

_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]+"
)
_OBEYED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_JOINER = "[\u200c\u200d]"
_IDLE_JOINERS = re.compile(rf"(?<![^\x00-\x7f\s]){_JOINER}+(?![^\x00-\x7f\s])|(?<={_JOINER}){_JOINER}+")
"""Joiners that join nothing: Persian and emoji need them, between ASCII they only hide something."""
_SPACE = re.compile(r"\s+")
_UNUSUAL = re.compile(r"[<\[]|  ")
_SPECIAL = re.compile(r"<(?=[|/a-zA-Z_｜])|\[(?=/?INST\])")


def visible(text: str) -> str:
    """`text` with a mark for each character that a terminal would obey or hide; line ends and tabs stay."""
    return _OBEYED.sub("\ufffd", text)


def escaped_json(document: str) -> str:
    """A JSON document with those characters as JSON escapes, which mean the same."""
    return _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], document)


def clean_text(text: str, max_characters: int = 160) -> str:
    """`text` on one line, without control characters or chat-template markers, cut to a length."""
    flat = text.strip()
    if not (flat.isascii() and flat.isprintable()) or _UNUSUAL.search(flat):  # nearly all text is as it should be
        flat = _IDLE_JOINERS.sub("", _CONTROL.sub(" ", text))
        flat = _SPACE.sub(" ", _SPECIAL.sub("(", flat)).strip()
    return flat if len(flat) <= max_characters else flat[: max_characters - 1].rstrip() + "…"
