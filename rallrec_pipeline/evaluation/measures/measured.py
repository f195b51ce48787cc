"""Every method measured on the same test rows, calibrated on the same validation rows, with bootstrap errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.bootstrap import (
    COLUMNS,
    EXACT,
    EXACT_OF_ALL,
    Scores,
    bootstrap,
    measure,
    rows_as_clusters,
    users_as_clusters,
)
from rallrec_pipeline.evaluation.measures.by_user import Codes, auc_by_user
from rallrec_pipeline.evaluation.measures.calibration import Platt, fit_platt
from rallrec_pipeline.evaluation.measures.metrics import MEASURES, Floats, Labels, area_under_roc
from rallrec_pipeline.evaluation.measures.shared_rows import (
    SharedRows,
    common_validation_rows,
    compared_rows,
    facts_of,
    user_codes,
)
from rallrec_pipeline.evaluation.measures.significance import Interval, interval, reflected

OF_USERS = ("uauc", "gauc")


@dataclass(frozen=True)
class Measured:
    """Methods on the same rows, and what each measure is worth there.

    `points` has the measures of a method in the order of COLUMNS, `by_users` and `by_rows` the same on every resample,
    (resamples, len(COLUMNS)); NaN where one is not defined. `by_users` is None where users cannot be resampled.
    """

    labels: Labels
    users: Codes | None
    users_with_both: int
    scores: dict[str, Scores]
    points: dict[str, Floats]
    by_users: dict[str, Floats] | None
    by_rows: dict[str, Floats] | None
    undefined: dict[str, str]
    """Measure -> why it has no figure on these rows."""
    unsure: dict[str, str]
    """Measure -> why it has a figure without an error over users."""

    @property
    def n_users(self) -> int | None:
        """How many users the rows are of."""
        return None if self.users is None else int(np.unique(self.users).size)


@dataclass(frozen=True)
class Calibration:
    """How the methods were calibrated: the validation rows, and the scaling of each method that has one."""

    rows: SharedRows
    scaling: dict[str, Platt]
    undefined: dict[str, str]
    """Method -> why it is judged by its own probabilities."""

    def auc(self, method: str) -> float:
        """AUC on the validation rows; NaN where it is not defined."""
        return area_under_roc(self.rows.labels, self.rows.given[method]) if method in self.rows.given else np.nan


@dataclass(frozen=True)
class Comparison:
    """What a report and a study are made of: the test rows, their facts, the methods measured, their calibration."""

    rows: SharedRows
    facts: pl.DataFrame
    calibration: Calibration
    measured: Measured


def compare_methods(
    predictions: Mapping[str, pl.DataFrame], facts: pl.DataFrame | None, resamples: int, seed: int
) -> Comparison:
    """Calibrate and measure every method; `predictions` by method as `compared_rows` takes them.

    `facts` has a row for each test sample: `sample_id`, `user_id`, and what slices are cut by.
    Raises DataError when methods were not scored on the same rows, or a test row has no facts.
    """
    rows = compared_rows(predictions)
    known = facts_of(facts, rows.sample_ids)
    calibration = calibrate(predictions)
    scores = {}
    for method, given in rows.given.items():
        raw, scaling = rows.raw[method], calibration.scaling.get(method)
        calibrated = raw if scaling is None else scaling.apply(raw)
        scores[method] = Scores(given, calibrated, raw)
    measured = measure_methods(rows.labels, scores, user_codes(known), resamples, seed, rows_too=True)
    return Comparison(rows, known, calibration, measured)


def calibrate(predictions: Mapping[str, pl.DataFrame]) -> Calibration:
    """Platt scaling of every method on the validation rows that all have in common."""
    rows = common_validation_rows(predictions)
    why = "it has no validation rows"
    if rows.given and rows.labels.size == 0:
        why = "there are no validation rows that all methods have"
    elif rows.given and rows.one_class:
        why = f"all {rows.labels.size:,} validation rows are {_class_of(rows.labels)}"
    usable = rows.given and rows.labels.size and not rows.one_class
    scaling = {method: fit_platt(p, rows.labels) for method, p in rows.raw.items()} if usable else {}
    return Calibration(rows, scaling, {method: why for method in predictions if method not in scaling})


def measure_methods(
    labels: Labels,
    scores: Mapping[str, Scores],
    users: Codes | None,
    resamples: int,
    seed: int,
    rows_too: bool = False,
) -> Measured:
    """Every measure of every method on rows (n,), with resamples of users and, where asked for, of rows."""
    points = {method: measure(labels, found, users) for method, found in scores.items()}
    both = _users_with_both(labels, users)
    undefined = _undefined(labels, users, both)
    unsure = _unsure(users, both, undefined)
    by_users = by_rows = None
    if users is not None and len(unsure) + len(undefined) < len(MEASURES):
        exact = EXACT_OF_ALL if rows_too else EXACT
        by_users = bootstrap(labels, scores, users_as_clusters(users), resamples, seed, exact)
        for name in unsure:
            for found in by_users.values():
                found[:, COLUMNS.index(name)] = np.nan
        unsure = _too_few(by_users, undefined) | unsure
    if rows_too and labels.size > 1:
        plain = {method: replace(found, raw=None) for method, found in scores.items()}
        by_rows = bootstrap(labels, plain, rows_as_clusters(labels.size), resamples, seed)
    return Measured(labels, users, both, dict(scores), points, by_users, by_rows, undefined, unsure)


def figures(measured: Measured, method: str, names: tuple[str, ...] = COLUMNS) -> dict[str, Any]:
    """The measures `names` of a method as plain values: `auc`, `auc_se` and `auc_ci` over users, and so on.

    `auc_se_rows` and `auc_ci_rows` are those over rows, where rows were resampled.
    """
    found: dict[str, Any] = {}
    for name in names:
        column = COLUMNS.index(name)
        found[name] = float(measured.points[method][column])
        for samples, suffix in ((measured.by_users, ""), (measured.by_rows, "_rows")):
            if suffix and (samples is None or name in OF_USERS or name not in MEASURES):
                continue
            error = spread(samples[method][:, column] if samples else np.zeros(0), name, found[name])
            found |= {f"{name}_se{suffix}": error.se, f"{name}_ci{suffix}": [error.low, error.high]}
    return found


def spread(resampled: Floats, name: str, point: float) -> Interval:
    """Error and interval of the measure `name` from its resamples."""
    return reflected(resampled, point) if name.removesuffix("_raw") == "ece" else interval(resampled)


def not_defined(measured: Measured) -> dict[str, str]:
    """Why a figure is null, by its key; the error of a null figure is null too and has no key of its own."""
    return measured.undefined | {f"{name}_se": why for name, why in measured.unsure.items()}


def _users_with_both(labels: Labels, users: Codes | None) -> int:
    if users is None or labels.size == 0:
        return 0
    auc = auc_by_user(users, labels, np.zeros(labels.size), int(users.max()) + 1)
    return int(np.isfinite(auc).sum())


def _undefined(labels: Labels, users: Codes | None, with_both: int) -> dict[str, str]:
    if labels.size == 0:
        return dict.fromkeys(MEASURES, "there are no rows")
    why = {}
    if np.unique(labels).size < 2:
        why["auc"] = f"all {labels.size:,} rows are {_class_of(labels)}"
    if users is None:
        why |= dict.fromkeys(OF_USERS, "the rows have no users")
    elif with_both == 0:
        why |= dict.fromkeys(OF_USERS, "no user has both a liked and a disliked row")
    return why


def _unsure(users: Codes | None, with_both: int, undefined: Mapping[str, str]) -> dict[str, str]:
    defined = [name for name in MEASURES if name not in undefined]
    if users is None:
        return dict.fromkeys(defined, "the rows have no users to resample")
    if np.unique(users).size < 2:
        return dict.fromkeys(defined, "all rows are of one user")
    if with_both == 1:
        return dict.fromkeys(OF_USERS, "only one user has both a liked and a disliked row")
    return {}


def _too_few(by_users: Mapping[str, Floats], undefined: Mapping[str, str]) -> dict[str, str]:
    fewest = np.min([np.isfinite(found).sum(axis=0) for found in by_users.values()], axis=0)
    few = (name for name, count in zip(COLUMNS, fewest, strict=True) if count < 2 and name not in undefined)
    return dict.fromkeys(few, "fewer than two resamples define it")


def _class_of(labels: Labels) -> str:
    return "liked" if labels[0] == 1 else "disliked"
