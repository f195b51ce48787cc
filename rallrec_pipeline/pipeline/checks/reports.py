"""What a reader of the evaluation report should be warned of. None of it is wrong, so nothing is held back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rallrec_pipeline.evaluation.reports.evaluation_report import MAIN
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.store import Record, all_records
from rallrec_pipeline.pipeline.checks.verdict import Verdict
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.reports import report_files

STAGE, MEAN = "evaluation_report", "item_mean"
ERRORS = 2.0
"""Standard errors that a drop must have to be told: of equal models one report in forty is that much below another."""
MOST_ECE = 0.05
"""Expected calibration error that surely is above this: in the mean probabilities are five points off."""


def better_than_item_mean(run: StageRun) -> Verdict:
    """RALLRec ranks better than the mean rating of an item, a number that needs no model."""
    methods = _report(run, run.given(STAGE))["methods"]
    ours, mean = (methods.get(name, {}).get("auc") for name in (MAIN, MEAN))
    if ours is None or mean is None:
        return _nothing("RALLRec and the item's mean do not both have an AUC")
    return Verdict(ours > mean, {"auc": ours, "auc_of_item_mean": mean})


def no_drop_against_the_last(run: StageRun) -> Verdict:
    """The AUC of RALLRec is not `ERRORS` standard errors below that of this variant's last report on as many rows."""
    record = run.given(STAGE)
    report = _report(run, record)
    last = next((found for other in _earlier(run, record) if _is_like(report, found := _report(run, other))), None)
    if last is None:
        return _nothing("there is no earlier report of these settings' name on as many rows")
    now, before = report["methods"][MAIN], last["methods"][MAIN]
    figures = {"auc": now["auc"], "auc_before": before["auc"], "standard_error": before["auc_se"]}
    return Verdict(now["auc"] >= before["auc"] - ERRORS * before["auc_se"], figures)


def probabilities_are_calibrated(run: StageRun) -> Verdict:
    """The expected calibration error of RALLRec is not surely above `MOST_ECE`."""
    found = _report(run, run.given(STAGE))["methods"].get(MAIN, {})
    low = (found.get("ece_ci") or [None])[0]
    if low is None:
        return _nothing("the calibration error of RALLRec, or its interval, is not defined")
    return Verdict(low <= MOST_ECE, {"ece": found["ece"], "at_least": low, "bound": MOST_ECE})


def _report(run: StageRun, record: Record) -> Any:
    return read_json(report_files(record.folder(run.lake), run.dataset)[0])


def _earlier(run: StageRun, record: Record) -> list[Record]:
    """Other reports that are still there, newest first."""
    found = all_records(run.lake, run.dataset, STAGE)
    return [other for other in found if other.created_at < record.created_at and other.is_there(run.lake)]


def _is_like(report: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two reports may be compared: one variant, as many test rows, and an AUC with its error in both."""
    both = [one["methods"].get(MAIN, {}) for one in (report, other)]
    known = all(found.get("auc") is not None and found.get("auc_se") is not None for found in both)
    return known and all(report.get(key) == other.get(key) for key in ("profile", "n_test"))


def _nothing(why: str) -> Verdict:
    return Verdict(True, {"note": f"{why}: nothing was compared"})
