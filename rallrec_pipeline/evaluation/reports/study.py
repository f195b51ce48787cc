"""The report of a study: its methods on the same test rows, and the paired difference of each to the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rallrec_pipeline.evaluation.measures.comparisons import table
from rallrec_pipeline.evaluation.reports.evaluation_report import (
    Scored,
    as_plain,
    compare_scored,
    methods_told,
    shared_told,
)
from rallrec_pipeline.evaluation.reports.responses import ReasoningParts, responses_told
from rallrec_pipeline.evaluation.reports.study_parts import StudyParts, parts_told


@dataclass(frozen=True)
class StudyContext:
    """What the report is about; `reference` is a key of the predictions."""

    name: str
    title: str
    note: str
    dataset: str
    dataset_title: str
    profile: str
    reference: str
    seed: int
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parts: StudyParts = field(default_factory=StudyParts)
    responses: Mapping[str, ReasoningParts] = field(default_factory=dict)
    """By variant, what is told of the reasoner's responses."""
    beside: str = ""
    """A name that it shares with studies of other test rows, which it is set beside."""


def build_study(
    context: StudyContext,
    scored: Mapping[str, Scored],
    resamples: int,
    facts: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """The JSON-able report on the test rows of every method, with `facts` as in `build_report`.

    Raises DataError when the methods were not scored on the same rows.
    """
    found = compare_scored(scored, facts, resamples, context.seed)
    methods = methods_told(found, scored)
    pairs = {method: (method, context.reference) for method in methods if method != context.reference}
    report = {
        "study": context.name,
        "title": context.title,
        "note": context.note,
        "dataset": context.dataset,
        "dataset_title": context.dataset_title,
        "profile": context.profile,
        "beside": context.beside,
        **shared_told(found, resamples, context.seed),
        "reference": context.reference,
        "methods": methods,
        "paired": table(found.measured, pairs),
        **parts_told(context.parts, context.reference, found.measured, methods),
        "responses": {
            variant: responses_told(parts, resamples, context.seed) for variant, parts in context.responses.items()
        },
        "provenance": dict(context.provenance),
    }
    return as_plain(report)
