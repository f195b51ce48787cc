"""Several predictions of the same rows made one: by consistency (eq. 10 of RALLRec+), and what that has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import logistic_regression
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.folds import out_of_fold
from rallrec_pipeline.reasoning.opinions import Floats, Labels, Opinion, log_loss, log_odds

Rows = NDArray[np.bool_]
Merged = Callable[[Floats, Floats], Floats]
"""P(yes) (n,) of what two members say of n rows."""
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
"""Weights of the reasoner that validation may choose among; figure 6 shows 0.1 to 0.5."""
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""As of figure 7."""


def consistency(general: Opinion, reasoned: Opinion, alpha: float, epsilon: float) -> Floats:
    """Eq. 10: (a P_R / (var_R + eps) + P_G / (var_G + eps)) / (a / (var_R + eps) + 1 / (var_G + eps)), (n,).

    Where a model was not asked its variance is infinite and its weight 0.
    """
    by_reasoner, by_general = alpha / (reasoned.variance + epsilon), 1 / (general.variance + epsilon)
    return np.asarray(
        (by_reasoner * reasoned.p_yes + by_general * general.p_yes) / (by_reasoner + by_general), dtype=np.float64
    )


def choose_consistency(general: Opinion, reasoned: Opinion, labels: Labels) -> tuple[float, float]:
    """alpha and epsilon with the least log loss on these (validation) rows; of equal ones the first.

    Raises DataError when there are no rows.
    """
    if labels.size == 0:
        raise DataError("no validation rows to choose alpha and epsilon on: raise prompts.validation_samples")
    losses = {pair: log_loss(labels, consistency(general, reasoned, *pair)) for pair in product(ALPHAS, EPSILONS)}
    return min(losses, key=lambda pair: losses[pair])


def plain_mean(members: Sequence[Opinion]) -> Floats:
    """Mean of the members that were asked about a row, (n,); of all where none was."""
    p, asked = np.array([one.p_yes for one in members]), np.array([np.isfinite(one.variance) for one in members])
    asked = np.where(asked.any(axis=0), asked, True)
    return np.asarray((p * asked).sum(axis=0) / asked.sum(axis=0))


def stack(
    members: Sequence[Opinion],
    facts: Floats | None,
    valid: Rows,
    labels: Labels,
    users: NDArray[np.int64],
) -> Floats:
    """P(yes) (n,) of a ridge logistic regression on what the members say, fitted on the rows that are `valid`.

    With `facts` (n, f) it sees these, the members' spread and how that bends what they say. A row about which a member
    was not asked is answered by a fit without that member. Valid rows themselves get the answer of fits that left
    their user out (`folds.py`), so that what is chosen on them is not fooled. `labels` of other rows are not looked at.
    Raises DataError where valid rows are of one class.
    """
    if np.unique(labels[valid]).size < 2:
        raise DataError("validation rows of one class cannot fit a stack: raise prompts.validation_samples")
    asked = np.array([np.isfinite(member.variance) for member in members])
    p_yes = np.full(labels.size, np.nan)
    for pattern in np.unique(asked, axis=1).T:
        rows = (asked == pattern[:, None]).all(axis=0)
        there = [member for member, known in zip(members, pattern, strict=True) if known]
        if not there:
            p_yes[rows] = plain_mean(members)[rows]
            continue
        features = stack_features(there, facts)
        usable = valid & asked[pattern].all(axis=0)
        if np.unique(labels[usable]).size < 2:
            p_yes[rows] = plain_mean(there)[rows]
            continue
        targets = labels[usable].astype(np.float64)
        held = rows & usable
        p_yes[rows] = _logistic(features[usable], targets, features[rows])
        own = out_of_fold(_logistic, features[usable], targets, users[usable])
        p_yes[held] = own[held[usable]]
    return p_yes


def stack_features(members: Sequence[Opinion], facts: Floats | None) -> Floats:
    """Log-odds of every member, (n, k); with `facts` (n, f) these too, each spread, and log-odds times spread.

    The variance of a row about which a member was not asked counts as 0.
    """
    odds = [log_odds(one.p_yes) for one in members]
    if facts is None:
        return np.column_stack(odds)
    spread = [np.sqrt(np.where(np.isfinite(one.variance), one.variance, 0.0)) for one in members]
    told = [column for column in spread if np.ptp(column) > 0]
    bent = [given * column for given, column in zip(odds, spread, strict=True) if np.ptp(column) > 0]
    return np.column_stack([*odds, *told, *bent, facts])


def merge_of_two(kind: Literal["mean", "logistic"], members: tuple[Floats, Floats], labels: Labels) -> Merged:
    """How what two members say of any row becomes one P(yes): by `mean` or a `logistic` stack.

    The stack is fitted on what both say of validation rows, each (n,), and their `labels`. Raises DataError where these
    are of one class.
    """
    if kind == "mean":
        return lambda first, second: (first + second) / 2
    if np.unique(labels).size < 2:
        raise DataError("validation rows of one class cannot fit a stack: raise prompts.validation_samples")
    fit = _fit_logistic(_odds(*members), labels.astype(np.float64))
    return lambda first, second: fit(_odds(first, second))


def _odds(first: Floats, second: Floats) -> Floats:
    return np.column_stack([log_odds(first), log_odds(second)])


def _logistic(features: Floats, targets: Floats, asked: Floats) -> Floats:
    """P (m,) of `asked` (m, k) by a ridge logistic regression of `targets` (n,) on `features` (n, k)."""
    return _fit_logistic(features, targets)(asked)


def _fit_logistic(features: Floats, targets: Floats) -> Callable[[Floats], Floats]:
    """The same for any rows to come."""
    if np.unique(targets).size < 2:  # a small fold
        return lambda asked: np.full(asked.shape[0], float(targets.mean()))
    model = logistic_regression()
    model.fit(features, targets)

    def p_yes(asked: Floats) -> Floats:
        if asked.shape[0] == 0:
            return np.zeros(0)
        return np.asarray(model.predict_proba(asked)[:, 1], dtype=np.float64)

    return p_yes


def best_member(members: Sequence[Opinion], labels: Labels) -> int:
    """The one with the least log loss on these (validation) rows."""
    return int(np.argmin([log_loss(labels, member.p_yes) for member in members]))
