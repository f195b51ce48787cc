"""What a check is, what it finds, and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rallrec_pipeline.pipeline.checks.advice import ADVICE
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.text import clean_text

EXAMPLES = 5
"""Rows that a failed check shows."""
PAGE = "docs/checks.md"


@dataclass(frozen=True)
class Verdict:
    """Whether a check holds, the figures it rests on, and rows that speak against it, a line each.

    All of it goes into Dagster's events, which `rallrec forget` cannot reach: so nothing here names a user.
    """

    passed: bool
    figures: dict[str, Any]
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """One check of one asset; a blocking one holds back everything downstream, one that `warns` lets a run succeed."""

    asset: str
    name: str
    description: str
    judge: Callable[[StageRun], Verdict]
    blocking: bool = True
    also_reads: tuple[str, ...] = ()
    warns: bool = False


def advice(check: Check, dataset: str) -> str:
    """What to do where a check fails, and where more is said."""
    return f"{ADVICE[check.name].format(dataset=dataset)} ({PAGE}#{check.name})"


def failure(check: Check, verdict: Verdict, dataset: str) -> str:
    """What is wrong, where, and how to mend it; rows that speak against it follow, a line each."""
    figures = ", ".join(f"{name} {_short(value)}" for name, value in verdict.figures.items())
    head = f"check {check.name} of {check.asset} failed ({figures}): {advice(check, dataset)}"
    return "\n".join([head, *(f"  - {example}" for example in verdict.examples)])


def row_told(file: str, line: int | None, reason: str) -> str:
    """A raw row that was not taken: `ratings.csv, line 3: rating is off the scale`."""
    where = f"{clean_text(file)}, line {line}" if line is not None else clean_text(file)
    return f"{where}: {reason}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
