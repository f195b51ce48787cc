"""What a check has found, and how counts and names are put into its messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rallrec_pipeline.text import clean_text

MAX_MESSAGE, MAX_VALUE, MAX_NAMES = 1000, 40, 20


@dataclass(frozen=True)
class Findings:
    """What has been found so far; each message becomes one clean line."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def problem(self, message: str) -> None:
        """Something that must be mended."""
        self.problems.append(clean_text(message, MAX_MESSAGE))

    def warning(self, message: str) -> None:
        """Something to know."""
        self.warnings.append(clean_text(message, MAX_MESSAGE))

    def fault(self, grave: bool, message: str) -> None:
        """A problem where it is `grave`, else a warning."""
        (self.problem if grave else self.warning)(message)

    def refused(self, table: str, reasons: pl.Series) -> None:
        """Count the rows that `table` leaves out (two may share a file), by their `reasons` (n,); null is none."""
        for reason, count in reasons.drop_nulls().value_counts(sort=True).iter_rows():
            self.figures["refused"][f"{table}: {reason}"] = count


def share_of(part: int, total: int, what: str) -> str:
    """As in `3 of 200 rows (1.50%)`."""
    return f"{part:,} of {total:,} {what} ({part / max(1, total):.2%})"


def shown(text: str) -> str:
    """Text of a file in a message."""
    return repr(clean_text(text, MAX_VALUE))


def listed(names: Sequence[str]) -> str:
    """The first of `names`, and how many more there are."""
    first = ", ".join(shown(name) for name in names[:MAX_NAMES])
    return f"{first} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else first or "nothing"
