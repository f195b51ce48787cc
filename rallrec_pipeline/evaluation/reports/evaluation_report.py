"""The evaluation report of one dataset: every method on the same test rows, with errors and the papers' figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.bootstrap import COLUMNS, Scores
from rallrec_pipeline.evaluation.measures.comparisons import best, strongest, table
from rallrec_pipeline.evaluation.measures.costs import Cost, told_cost
from rallrec_pipeline.evaluation.measures.measured import Comparison, compare_methods, figures, not_defined
from rallrec_pipeline.evaluation.measures.metrics import Labels
from rallrec_pipeline.evaluation.measures.reliability import histogram, roc_points, told_reliability
from rallrec_pipeline.evaluation.measures.significance import smallest_p
from rallrec_pipeline.evaluation.measures.slices import sliced
from rallrec_pipeline.evaluation.reports.papers import paper_figures
from rallrec_pipeline.finite import finite

MAIN = "rallrec"
FALLBACK = "boosted_trees"
"""The reference where no validation row can choose one."""
Kind = Literal["llm", "baseline"]
"""`baseline`: all that is no LLM."""


@dataclass(frozen=True)
class ReportContext:
    """What the report is about. `paper_dataset` is a key of PAPER_DATASETS, or None where no paper is near."""

    dataset: str
    title: str
    profile: str
    seed: int
    n_train: int
    n_train_baselines: int | None = None
    """Training samples of the baselines, which are fitted on all; None where it is not known."""
    paper_dataset: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    """`weights` of eq. 7, `neighbour_auc` of every mixture that was tried, `alpha` and its search."""


@dataclass(frozen=True)
class Scored:
    """One method: its predictions (`compared_rows`), what it is called, what it is and what it cost."""

    predictions: pl.DataFrame
    title: str
    kind: Kind = "llm"
    cost: Cost = field(default_factory=Cost)


def build_report(
    context: ReportContext, scored: Mapping[str, Scored], facts: pl.DataFrame | None = None, resamples: int = 1000
) -> dict[str, Any]:
    """The JSON-able report on the test rows of every method; docs/measures.md names its keys.

    `facts` has a row for each test sample: `sample_id`, `user_id`, `item_id`, `history_length`, `item_train_count`.
    `n_train` of the context counts the samples that the tuned methods saw. Values that cannot be computed are null,
    never NaN, and `not_defined` says why. Raises DataError when the methods were not scored on the same rows.
    """
    found = compare_scored(scored, facts, resamples, context.seed)
    reference = _reference(found, scored)
    strong = reference["method"]
    ours = {} if MAIN not in scored else {f"{MAIN} - {name}": (MAIN, name) for name in _against(MAIN, found, strong)}
    all_others = {} if strong is None else {name: (name, strong) for name in scored if name != strong}
    report = {
        "dataset": context.dataset,
        "dataset_title": context.title,
        "profile": context.profile,
        "seed": context.seed,
        "n_train": context.n_train,
        "n_train_baselines": context.n_train_baselines,
        **shared_told(found, resamples, context.seed),
        "methods": methods_told(found, scored),
        "reference": reference,
        "paired": table(found.measured, ours),
        "against_reference": table(found.measured, all_others),
        "paper": paper_figures(context.paper_dataset),
        "retrieval": dict(context.retrieval),
        "provenance": dict(context.provenance),
    }
    return as_plain(report)


def compare_scored(scored: Mapping[str, Scored], facts: pl.DataFrame | None, resamples: int, seed: int) -> Comparison:
    """`compare_methods` of the methods' predictions."""
    return compare_methods({name: method.predictions for name, method in scored.items()}, facts, resamples, seed)


def methods_told(found: Comparison, scored: Mapping[str, Scored]) -> dict[str, dict[str, Any]]:
    """Every method's measures with their errors, its calibration and cost, and why a value is null."""
    told = {}
    measured, calibration = found.measured, found.calibration
    for method, about in scored.items():
        cost, scaling = told_cost(about.cost), calibration.scaling.get(method)
        why = not_defined(measured) | cost.pop("not_defined")
        if scaling is None:
            why |= dict.fromkeys(("calibration", "validation_auc"), calibration.undefined[method])
        told[method] = figures(measured, method) | {
            "title": about.title,
            "kind": about.kind,
            "n": int(measured.labels.size),
            "uauc_users": measured.users_with_both,
            "seconds": cost["seconds"],
            "cost": cost,
            "calibration": None if scaling is None else {"slope": scaling.slope, "intercept": scaling.intercept},
            "validation_auc": calibration.auc(method),
            "not_defined": why,
        }
    return told


def shared_told(found: Comparison, resamples: int, seed: int) -> dict[str, Any]:
    """What a report and a study say alike: rows, users, validation, winners, curves and slices."""
    measured, validation = found.measured, found.calibration.rows.labels
    return {
        "n_test": int(measured.labels.size),
        "share_liked": float(measured.labels.mean()) if measured.labels.size else None,
        "users": {"n": measured.n_users, "with_both_answers": measured.users_with_both},
        "validation": {"n": int(validation.size), "share_liked": float(validation.mean()) if validation.size else None},
        "resamples": resamples,
        "smallest_p": smallest_p(resamples),
        "best": best(measured),
        "curves": {method: _curves(measured.labels, scores) for method, scores in measured.scores.items()},
        "slices": sliced(found, resamples, seed),
    }


def _curves(labels: Labels, scores: Scores) -> dict[str, Any]:
    return {
        "reliability": told_reliability(labels, scores.calibrated),
        "reliability_raw": None if scores.raw is None else told_reliability(labels, scores.raw),
        "roc": roc_points(labels, scores.given),
        "histogram": histogram(labels, scores.calibrated),
    }


def _reference(found: Comparison, scored: Mapping[str, Scored]) -> dict[str, Any]:
    """The strongest method without an LLM, as validation rows say: test rows choose nothing."""
    candidates = [name for name, method in scored.items() if method.kind != "llm"]
    chosen = strongest(candidates, found.calibration)
    if chosen is not None:
        return {"method": chosen, "chosen_by": "AUC on the validation rows", "not_defined": None}
    if not candidates:
        return {"method": None, "chosen_by": None, "not_defined": "no method without an LLM was scored"}
    taken = FALLBACK if FALLBACK in candidates else candidates[0]
    return {"method": taken, "chosen_by": None, "not_defined": "validation rows give no AUC, so none was chosen by it"}


def _against(method: str, found: Comparison, reference: str | None) -> list[str]:
    """All other methods: the reference, then by falling AUC."""
    auc = {name: np.nan_to_num(point[COLUMNS.index("auc")]) for name, point in found.measured.points.items()}
    return sorted(auc.keys() - {method}, key=lambda name: (name != reference, -auc[name], name))


def as_plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """`report` as plain JSON values; every NaN and infinity becomes None, for JSON has neither."""
    plain: dict[str, Any] = json.loads(json.dumps(finite(report), allow_nan=False, default=str))
    return plain
