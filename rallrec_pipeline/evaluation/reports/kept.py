"""A study's report reduced to what the page of results shows: small enough to be kept with the code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.reports.wording import Report

SHOWN = ("title", "auc", "auc_se", "uauc", "uauc_se", "log_loss", "log_loss_se", "ece", "accuracy")
_ABOUT = (
    *("study", "title", "note", "dataset", "dataset_title", "profile"),
    *("n_test", "share_liked", "users", "reference"),
)
_DIFFERENCE = ("difference", "se", "p_holm")
_DIGITS = 9
"""Decimals that are kept. The page shows four at most, and the least p is 2 / 5,001."""


def kept_form(report: Report) -> dict[str, Any]:
    """`report` (of `build_study`, with its origin) without curves, slices and intervals, JSON-able."""
    tables, origin = report.get("tables", {}), report["provenance"]
    found = {name: report[name] for name in _ABOUT} | {
        "beside": report.get("beside", ""),
        "methods": {name: _only(one, SHOWN) for name, one in report["methods"].items()},
        "tables": {name: dict(table, rows=[_row(row) for row in table["rows"]]) for name, table in tables.items()},
        "paired": {} if tables else {name: _difference(one, "auc") for name, one in report["paired"].items()},
        "claims": [dict(one, paired=_difference(one["paired"], one["by"])) for one in report.get("claims", [])],
        "figures": report.get("figures", {}),
        "responses": {
            variant: {"cascades": told["cascades"], "responses": _responses(told)}
            for variant, told in report.get("responses", {}).items()
        },
        "provenance": _only(origin, ("command", "laid_over", "made")),
    }
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def newest(reports: Iterable[Report]) -> list[Report]:
    """Of each study of a dataset the report that was made last; of two of one time the first."""
    found: dict[tuple[str, str], Report] = {}
    for report in reports:
        key = report["study"], report["dataset"]
        if key not in found or _made_at(report) > _made_at(found[key]):
            found[key] = report
    return [found[key] for key in sorted(found)]


def require_kept(report: Any, where: str) -> Report:
    """`report` where it has what the page needs. Raises DataError that names `where` it was read."""
    wanted = {*_ABOUT, "methods", "tables", "paired", "claims", "provenance"}
    if not isinstance(report, dict) or not wanted <= report.keys() or not isinstance(report["provenance"], dict):
        raise DataError(f"{where} is no kept study: take it away, or write it again with `rallrec results --keep`")
    return report


def _made_at(report: Report) -> str:
    """Times in ISO 8601 of one zone sort as text; one that is not known comes before all."""
    return str(report["provenance"].get("made", {}).get("at") or "")


def _row(row: Report) -> dict[str, Any]:
    return _only(row, ("row", "title", "published")) | {"paired": row["paired"] and _difference(row["paired"], "auc")}


def _responses(told: Report) -> dict[str, Any]:
    """Of each way to ask the reasoner the length of its responses and what they take."""
    wanted = ("title", "rows_asked", "responses", "tokens_per_response", "seconds_per_response", "unanswered_share")
    return {name: _only(one, wanted) for name, one in told["responses"].items()}


def _difference(paired: Report, measure: str) -> dict[str, Any]:
    return {measure: _only(paired[measure], _DIFFERENCE)}


def _only(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
