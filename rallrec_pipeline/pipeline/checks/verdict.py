"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rallrec_pipeline.pipeline.context import StageRun


@dataclass(frozen=True)
class Verdict:
    """Whether a check holds, and the figures it rests on."""

    passed: bool
    figures: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One check of one asset; a blocking one holds back everything downstream."""

    asset: str
    name: str
    description: str
    judge: Callable[[StageRun], Verdict]
    blocking: bool = True
    also_reads: tuple[str, ...] = ()
