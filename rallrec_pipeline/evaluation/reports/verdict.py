"""Whether the LLM earns its cost: one sentence from ranking, ranking within a user, and probabilities together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

from rallrec_pipeline.evaluation.measures.metrics import HIGHER_IS_BETTER
from rallrec_pipeline.evaluation.reports.evaluation_report import MAIN
from rallrec_pipeline.evaluation.reports.wording import (
    Report,
    direction,
    duration,
    holm_text,
    measure_title,
    reference_of,
    with_error,
)

JUDGED = ("auc", "uauc", "log_loss")
"""Measures that the verdict rests on: order over all rows, order within a user, probabilities."""


def verdict(report: Report) -> str:
    """Whether the LLM earns its cost: RALLRec against the strongest without an LLM, with the paired errors.

    It does where it is told apart as better by one of `JUDGED` and as worse by none.
    """
    reference = reference_of(report)
    pair = report["paired"].get(f"{MAIN} - {reference}")
    if reference is None or pair is None:
        return "Whether the LLM earns its cost is open: RALLRec and a method without an LLM were not both scored."
    judged = {measure: pair[measure] for measure in JUDGED if measure in pair}  # an earlier version has no UAUC
    ours, theirs = (report["methods"][name].get("cost", {}).get("seconds_per_million") for name in (MAIN, reference))
    took = f". A million predictions take {duration(ours)} against {duration(theirs)}, without tuning"
    cost = "" if None in (ours, theirs) else took
    told = ", ".join(_told(measure, found) for measure, found in judged.items())
    return (
        f"{answer(judged)}. RALLRec minus the strongest without an LLM ({report['methods'][reference]['title']}) on the"
        f" same rows: {told}{cost}."
    )


def answer(judged: Mapping[str, Mapping[str, Any]]) -> str:
    """The verdict itself, from differences by measure."""
    sides = {measure: favour(measure, found) for measure, found in judged.items() if _has_p(found)}
    better, worse = (_listed([m for m, side in sides.items() if side == wanted], "and") for wanted in (1, -1))
    if better and worse:
        return f"Whether the LLM earns its cost depends on the use: it is better in {better} and worse in {worse}"
    if better:
        return f"The LLM earns its cost: it is better in {better}"
    if worse:
        return f"The LLM does not earn its cost: it is worse in {worse}"
    if not sides:
        return "Whether the LLM earns its cost is open: too few users tell of an error"
    every = _listed(list(sides), "or")
    return f"The LLM does not show that it earns its cost: the two cannot be told apart in {every}"


def favour(measure: str, found: Mapping[str, Any]) -> int:
    """1 where the first method is told apart as the better one, -1 as the worse, else 0."""
    return direction(found) * (1 if measure in HIGHER_IS_BETTER else -1)


def _has_p(found: Mapping[str, Any]) -> bool:
    p = found.get("p_holm", found.get("p_value"))  # an earlier version corrected nothing
    return p is not None and not isnan(p)


def _told(measure: str, found: Mapping[str, Any]) -> str:
    better = "" if measure in HIGHER_IS_BETTER else "; lower is better"
    return (
        f"{measure_title(measure)} {with_error(found['difference'], found['se'], 4, sign=True)}"
        f" ({holm_text(found)}{better})"
    )


def _listed(measures: list[str], word: str) -> str:
    """`AUC, UAUC and log loss`."""
    *first, last = [measure_title(measure) for measure in measures] or [""]
    return f"{', '.join(first)} {word} {last}" if first else last
