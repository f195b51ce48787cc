"""The report of a study: its methods on the same test rows, and the paired difference of each to the reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rallrec_pipeline.evaluation.metrics import METRICS, evaluate
from rallrec_pipeline.evaluation.report import align_predictions, finite, told_differences
from rallrec_pipeline.evaluation.significance import bootstrap_metrics, differences, intervals


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


def build_study(
    context: StudyContext, predictions: Mapping[str, pl.DataFrame], titles: Mapping[str, str], resamples: int
) -> dict[str, Any]:
    """The JSON-able report on test `predictions`: method -> columns `sample_id`, `label`, `p_yes`.

    Raises DataError when the methods were not scored on the same rows, or AUC is undefined.
    """
    sample_ids, labels, scores = align_predictions(predictions)
    points = {method: evaluate(labels, p).as_array() for method, p in scores.items()}
    samples = bootstrap_metrics(labels, scores, resamples, context.seed)
    methods: dict[str, Any] = {}
    for method in scores:
        figures = dict(zip(METRICS, points[method].tolist(), strict=True))
        spread = {
            key: value
            for name, interval in intervals(samples[method]).items()
            for key, value in ((f"{name}_se", interval.se), (f"{name}_ci", [interval.low, interval.high]))
        }
        methods[method] = {"title": titles[method], "n": int(sample_ids.size)} | figures | spread
    reference = context.reference
    compared = {
        method: told_differences(differences(samples[method], samples[reference], points[method] - points[reference]))
        for method in scores
        if method != reference
    }
    report = {
        "study": context.name,
        "title": context.title,
        "note": context.note,
        "dataset": context.dataset,
        "dataset_title": context.dataset_title,
        "profile": context.profile,
        "n_test": int(sample_ids.size),
        "resamples": resamples,
        "reference": reference,
        "methods": methods,
        "paired": compared,
        "provenance": dict(context.provenance),
    }
    return finite(report)


def study_csv(report: Mapping[str, Any]) -> str:
    """One line a method: figures, errors, and the difference of AUC to the reference with its p."""
    out = io.StringIO()
    columns = [part for name in METRICS for part in (name, f"{name}_se")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "title", "n", *columns, "auc_difference", "auc_difference_se", "auc_p_value"])
    for method, figures in report["methods"].items():
        difference = report["paired"].get(method, {}).get("auc", {})
        told = [difference.get(name) for name in ("difference", "se", "p_value")]
        writer.writerow([method, figures["title"], figures["n"], *(figures[name] for name in columns), *told])
    return out.getvalue()
