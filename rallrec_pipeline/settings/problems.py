"""What pydantic finds, in the words of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from rallrec_pipeline.settings.methods import METHOD_NAME


def plain_problem(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """What pydantic found in values for `model`, in the words of this project."""
    if problem["type"] == "extra_forbidden":
        return f"there is no such key{_suggestion(problem['loc'], model.model_json_schema())}"
    if problem.get("ctx", {}).get("pattern") == METHOD_NAME:
        return "a name is up to 64 small letters, digits, - and _, and begins with neither sign"
    known = {"missing": "it is missing"}
    return known.get(problem["type"]) or " ".join(str(problem["msg"]).removeprefix("Value error, ").split())


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
