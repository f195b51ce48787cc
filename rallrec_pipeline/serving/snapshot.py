"""What is in force at one moment, loaded: nothing in it changes, whatever a run or a prune does to the lake meanwhile.

A part (the recommendations, a method) stands on one result and on all that this was made from, by address. So a run
that has replaced half of the stages gives no mixture: a part stays what it was until its own result is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rallrec_pipeline.errors import RallrecError, RequestError
from rallrec_pipeline.prompts.render import shown_title
from rallrec_pipeline.serving.catalogue import ByUser, Catalogue
from rallrec_pipeline.serving.methods import Answerer
from rallrec_pipeline.text import clean_text

UNKNOWN, CHANGED, UNAVAILABLE = 404, 409, 503
P = TypeVar("P", "Recommendations", "ServedMethod")


@dataclass(frozen=True)
class Recommendations:
    """The table, by user, and titles by item."""

    fingerprint: str
    rows: ByUser
    titles: Mapping[str, str]

    def of(self, user_id: str, most: int) -> tuple[list[dict[str, object]], int]:
        """The first items of a user, and how many there are. Raises RequestError for one who has none."""
        if user_id not in self.rows:
            raise RequestError(UNKNOWN, f"no recommendations for the user {clean_text(user_id, 60)!r}")
        columns = ("rank", "item_id", "p_yes", "because", "sources", "method", "fit", "model_fingerprint")
        kept = self.rows.rows(user_id)
        found = kept.select(columns).head(most).rows(named=True)
        return [{**row, "title": shown_title(self.titles.get(row["item_id"]))} for row in found], kept.height


@dataclass(frozen=True)
class ServedMethod:
    """A loaded method, what a question is looked up in, and the address of its result."""

    fingerprint: str
    catalogue: Catalogue
    answerer: Answerer


@dataclass(frozen=True)
class Snapshot:
    """The parts; what could not be loaded is the error that says why."""

    dataset: str
    variant: str
    taken_at: str
    recommendations: Recommendations | RallrecError
    methods: Mapping[str, ServedMethod | RallrecError]
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Fingerprints of all results that each part was made from, by stage."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Parts whose last load failed, and why: what was loaded of them before is kept."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be answered."""
        parts = (self.recommendations, *self.methods.values())
        return all(isinstance(part, RallrecError) for part in parts)

    def recommended(self, fingerprint: str | None) -> Recommendations:
        """Raises RequestError where there are none, or where they are not those that are asked for."""
        return _in_force(self.recommendations, fingerprint)

    def method(self, name: str | None, fingerprint: str | None) -> tuple[str, ServedMethod]:
        """The method of that name, or the first. Raises RequestError as `recommended` does, and for an unknown name."""
        chosen = next(iter(self.methods)) if name is None else name
        if chosen not in self.methods:
            there = ", ".join(self.methods)
            raise RequestError(UNKNOWN, f"no method {clean_text(chosen, 60)!r} is served: there are {there}")
        return chosen, _in_force(self.methods[chosen], fingerprint)


def without_lake(message: str, lake: Path) -> str:
    """A message with paths that begin in the lake, not where the lake lies."""
    return message.replace(f"{lake}/", "")


def _in_force(part: P | RallrecError, fingerprint: str | None) -> P:
    if isinstance(part, RallrecError):
        raise RequestError(UNAVAILABLE, str(part))
    if fingerprint is not None and fingerprint != part.fingerprint:
        raise RequestError(
            CHANGED, f"the result {clean_text(fingerprint, 80)!r} is not in force, that is {part.fingerprint!r}"
        )
    return part
