"""A report as CSV: one line a method, and one line a method in a slice; empty where nothing is defined."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from rallrec_pipeline.evaluation.measures.metrics import MEASURES, RAW
from rallrec_pipeline.evaluation.measures.slices import SLICED
from rallrec_pipeline.text import visible

_DIFFERENCE = ("difference", "difference_se", "p_value", "p_holm")
_COST = ("seconds", "seconds_per_million", "prompt_tokens", "tokens_per_million")
Report = Mapping[str, Any]
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def methods_csv(report: Report) -> str:
    """Measures with errors over users and over rows, raw ones, cost, and the differences to the reference."""
    measured = [part for name in MEASURES for part in _columns(name)]
    differences = [f"{name}_{part}" for name in MEASURES for part in _DIFFERENCE]
    header = ["method", "title", "n", "uauc_users", *measured, *RAW, *_COST, *differences]
    return written(header, (_method(report, name) for name in report["methods"]))


def slices_csv(report: Report) -> str:
    """Each slicing, slice and method: rows, users, measures with errors over users, and what is not defined."""
    measured = [part for name in SLICED for part in _columns(name)]
    about = ["slicing", "slice", "low", "high", "n", "users", "users_with_both", "share_liked"]
    return written([*about, "method", *measured, "not_defined"], _slices(report))


def _columns(name: str) -> list[str]:
    return [name, f"{name}_se", f"{name}_low", f"{name}_high"]


def _method(report: Report, name: str) -> dict[str, Any]:
    figures = report["methods"][name]
    compared = report["paired"] if "study" in report else report["against_reference"]
    line = {"method": name, **figures, **figures["cost"]}
    for measure in MEASURES:
        found = compared.get(name, {}).get(measure, {})
        line |= _bounds(figures, measure)
        line |= {f"{measure}_difference_se": found.get("se")}
        line |= {f"{measure}_{part}": found.get(part) for part in ("difference", "p_value", "p_holm")}
    return line


def _slices(report: Report) -> Iterator[dict[str, Any]]:
    for slicing, told in report["slices"].items():
        for part in told["slices"]:
            why = "; ".join(f"{key}: {reason}" for key, reason in part["not_defined"].items())
            for method, figures in part["methods"].items():
                bounds = {key: value for name in SLICED for key, value in _bounds(figures, name).items()}
                yield part | {"slicing": slicing, "method": method, **figures, **bounds, "not_defined": why}


def _bounds(figures: Mapping[str, Any], name: str) -> dict[str, Any]:
    low, high = figures[f"{name}_ci"]
    return {f"{name}_low": low, f"{name}_high": high}


def written(header: list[str], lines: Iterator[dict[str, Any]]) -> str:
    """A table of CSV; what a line lacks is empty, and its other keys are left out."""
    out = io.StringIO()
    writer = csv.DictWriter(out, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A text on one line that no spreadsheet takes for a formula (OWASP: CSV injection); numbers stay as they are."""
    if not isinstance(value, str):
        return value
    line = " ".join(visible(value).split())
    return f"'{line}" if line.startswith(FORMULA) else line
