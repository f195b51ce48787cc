"""The base of all sections, and what a hash takes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: frozen, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def essential(value: Any) -> Any:
    """JSON-able form of `value` in which sections lack the fields that hold their default.

    So a new field with a default, or a default written out, changes no hash of it. Takes a pydantic model, a scalar,
    or mappings, tuples and lists of such values. Two models of one class have the same form only when they are equal.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: essential(part) for key, part in value.items()}
    return [essential(part) for part in value] if isinstance(value, tuple | list) else value
