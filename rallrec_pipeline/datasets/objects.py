"""One object of JSON, or of Python as some write it, from one line of text."""

from __future__ import annotations

import ast
import json
import math
import warnings
from typing import Any

MAX_LITERAL = 1 << 20  # characters of one line that is read as Python: to parse it takes fifty times its memory
MAX_NESTED = 100
NAMES = {"NaN": None, "nan": None, "Infinity": None, "inf": None, "null": None, "true": True, "false": False}


def object_of(text: str) -> dict[str, Any] | None:
    """What a line says: an object of JSON, else a dictionary of Python's literals; None where it is neither.

    A comma after it, as between the entries of a list, is no part of it.
    NaN and infinities, which JSON does not have, are nothing. Nothing is ever run.
    """
    text = text.strip().rstrip(",")
    try:
        found = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        found = _literal(text)
    return found if isinstance(found, dict) else None


def as_json(found: dict[str, Any]) -> str | None:
    """The object as JSON; None where it cannot be written so."""
    try:
        text = json.dumps(_plain(found), ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return None
    return text.encode(errors="replace").decode()


def _literal(text: str) -> Any:
    if not text.startswith("{") or len(text) > MAX_LITERAL or _is_deep(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, for escapes that it does not know
            tree = _Named().visit(ast.parse(text, mode="eval"))
            return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_deep(text: str) -> bool:
    """Whether brackets may nest deeper than any parser should follow."""
    depth = deepest = 0
    for mark in text:
        if mark in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in ")]}":
            depth -= 1
    return deepest > MAX_NESTED


class _Named(ast.NodeTransformer):
    """Names of JSON and of pandas as values; any other name is no literal."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """One name."""
        return ast.Constant(NAMES[node.id]) if node.id in NAMES else node


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
