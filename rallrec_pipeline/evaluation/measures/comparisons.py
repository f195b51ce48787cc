"""Two methods on the same rows: paired differences, Holm's correction over a table of them, and who is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rallrec_pipeline.evaluation.measures.bootstrap import COLUMNS
from rallrec_pipeline.evaluation.measures.measured import Calibration, Measured
from rallrec_pipeline.evaluation.measures.metrics import HIGHER_IS_BETTER, MEASURES, Floats
from rallrec_pipeline.evaluation.measures.significance import ALPHA, Difference, difference, holm

Table = dict[str, dict[str, dict[str, Any]]]
"""Comparison -> measure -> `difference`, `se`, `ci`, `p_value`, `p_holm`, `significant`, and the errors over rows."""


def table(measured: Measured, pairs: Mapping[str, tuple[str, str]]) -> Table:
    """First minus second of each pair, by the pair's name. Holm's correction is over the pairs, for each measure."""
    found: Table = {name: {} for name in pairs}
    for measure in MEASURES:
        for name, told in _family(measured, pairs, measure).items():
            found[name][measure] = told
    return found


def claims(measured: Measured, asked: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """First minus second of each (first, second, measure), as `table` has it. Holm's correction is over all of them."""
    return _corrected([_difference(measured, *one) for one in asked])


def best(measured: Measured) -> dict[str, dict[str, Any] | None]:
    """The winner of each measure, and whether it is told apart from the next; None where there is no figure.

    p is corrected by Holm's method over the comparisons of the winner with all others.
    """
    return {measure: _best(measured, measure) for measure in MEASURES}


def strongest(candidates: Iterable[str], calibration: Calibration) -> str | None:
    """The one with the highest AUC on the validation rows; None where that is not defined for any."""
    known = {method: auc for method in candidates if np.isfinite(auc := calibration.auc(method))}
    return max(known, key=lambda method: known[method]) if known else None


def _best(measured: Measured, measure: str) -> dict[str, Any] | None:
    column, sign = COLUMNS.index(measure), 1 if measure in HIGHER_IS_BETTER else -1
    values = {method: float(point[column]) for method, point in measured.points.items()}
    if not np.isfinite(list(values.values())).all():
        return None
    winner, *others = sorted(values, key=lambda method: -sign * values[method])
    if not others:
        return {"method": winner, "next": None, "significant": False}
    found = _family(measured, {other: (winner, other) for other in others}, measure)
    return {"method": winner, "next": others[0]} | found[others[0]]


def _family(measured: Measured, pairs: Mapping[str, tuple[str, str]], measure: str) -> dict[str, dict[str, Any]]:
    """The differences of one measure, which Holm's correction is over."""
    found = _corrected([_difference(measured, *pair, measure) for pair in pairs.values()])
    return dict(zip(pairs, found, strict=True))


def _corrected(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for told, p in zip(found, holm([told["p_value"] for told in found]), strict=True):
        told |= {"p_holm": p, "significant": bool(p < ALPHA)}
    return found


def _difference(measured: Measured, first: str, second: str, measure: str) -> dict[str, Any]:
    """By users and by rows. That of ECE has no p: noise raises an ECE, and more that of finer predictions."""
    column = COLUMNS.index(measure)
    point = float(measured.points[first][column] - measured.points[second][column])
    none = np.zeros(0)

    def over(samples: Mapping[str, Floats] | None) -> Difference:
        one, other = (samples[method][:, column] if samples else none for method in (first, second))
        return difference(one, other, point)

    users, rows = over(measured.by_users), over(measured.by_rows)
    return {
        "difference": point,
        "se": users.se,
        "ci": [users.low, users.high],
        "p_value": users.p_value if measure != "ece" else float("nan"),
        "se_rows": rows.se,
        "ci_rows": [rows.low, rows.high],
        "p_value_rows": rows.p_value if measure != "ece" else float("nan"),
    }
