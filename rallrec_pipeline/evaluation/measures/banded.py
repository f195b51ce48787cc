"""Points of a curve with their errors over users: predictions of the same rows, judged on the same resamples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

from rallrec_pipeline.evaluation.measures.bootstrap import Scores
from rallrec_pipeline.evaluation.measures.by_user import Codes
from rallrec_pipeline.evaluation.measures.measured import figures, measure_methods
from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels

CURVE_RESAMPLES = 500
"""Resamples of a curve: its band is for the eye, and it has many points."""
Point = TypeVar("Point", bound=Hashable)


def with_bands(
    labels: Labels,
    predicted: Mapping[Point, Floats],
    users: Codes,
    measures: tuple[str, ...],
    resamples: int,
    seed: int,
) -> dict[Point, dict[str, Any]]:
    """By point: each of `measures` with `_se` and `_ci` over users; NaN where it is not defined.

    `labels`, `users` and each P(yes) are (n,).
    """
    named = {str(place): p for place, p in enumerate(predicted.values())}
    scores = {name: Scores(p, p) for name, p in named.items()}
    measured = measure_methods(labels, scores, users, min(resamples, CURVE_RESAMPLES), seed)
    return {point: figures(measured, name, measures) for point, name in zip(predicted.keys(), named, strict=True)}
