"""What pydantic and Python find, in the words of this project."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from rallrec_pipeline.settings.methods import METHOD_NAME

ABOVE_TABLES = "it belongs above the first [table]"
KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("model_type", "dict_type", "model_attributes_type"), "keys with their values"),
    "string_type": "text",
}
"""What a value must be, by pydantic's type of the problem."""


def plain_problem(problem: Mapping[str, Any], model: type[BaseModel], above: Collection[str] = ()) -> str:
    """What pydantic found in values for `model`; keys in `above` belong above the first table of their file."""
    kind = problem["type"]
    if kind == "extra_forbidden":
        if problem["loc"][-1] in above:
            return f"there is no such key: {ABOVE_TABLES}"
        return f"there is no such key{_suggestion(problem['loc'], model.model_json_schema())}"
    context = problem.get("ctx", {})
    if context.get("pattern") == METHOD_NAME:
        return "a name is up to 64 small letters, digits, - and _, and begins with neither sign"
    if kind == "missing":
        return "it is missing"
    if kind in KINDS:
        return f"it must be {KINDS[kind]}"
    if kind == "too_short":
        least = context["min_length"]
        return (
            f"it must have at least {least} {'entry' if least == 1 else 'entries'}, and has {context['actual_length']}"
        )
    return " ".join(str(problem["msg"]).removeprefix("Value error, ").replace("Input should", "it must", 1).split())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest of `known`, or nothing where none is near."""
    close = get_close_matches(name, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""


def unreadable(error: Exception) -> str:
    """Why a file or a text could not be read."""
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _suggestion(place: Sequence[object], schema: Mapping[str, Any]) -> str:
    """The key of the same section of the JSON `schema` that the last step of `place` may have been meant to be."""
    *sections, key = map(str, place)
    part: Mapping[str, Any] = schema
    for section in sections:
        named = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
        found = part.get("properties", {}).get(section) or named  # of a table whose keys are names, any entry
        part = found if isinstance(found, Mapping) else {}
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    close = get_close_matches(key, list(part.get("properties", {})), n=1)
    return f", did you mean {close[0]}?" if close else ""
