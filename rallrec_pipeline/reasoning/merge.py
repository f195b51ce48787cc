"""Several predictions of the same rows made one: by consistency (eq. 10 of RALLRec+), and what that has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.opinions import Floats, Labels, Opinion, log_loss, log_odds

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
"""Weights of the reasoner that validation may choose among; figure 6 shows 0.1 to 0.5."""
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""As of figure 7."""
_RIDGE = 1.0  # prior rows that pull the weights of a stack to zero


def consistency(general: Opinion, reasoned: Opinion, alpha: float, epsilon: float) -> Floats:
    """Eq. 10: (a P_R / (var_R + eps) + P_G / (var_G + eps)) / (a / (var_R + eps) + 1 / (var_G + eps)), (n,).

    Where a model was not asked its variance is infinite and its weight 0.
    """
    by_reasoner, by_general = alpha / (reasoned.variance + epsilon), 1 / (general.variance + epsilon)
    return np.asarray(
        (by_reasoner * reasoned.p_yes + by_general * general.p_yes) / (by_reasoner + by_general), dtype=np.float64
    )


def choose_consistency(
    general: Opinion,
    reasoned: Opinion,
    labels: Labels,
    alphas: Sequence[float] = ALPHAS,
    epsilons: Sequence[float] = EPSILONS,
) -> tuple[float, float]:
    """alpha and epsilon with the least log loss on these (validation) rows; of equal ones the first.

    Raises DataError when there are no rows.
    """
    if labels.size == 0:
        raise DataError("no validation rows to choose alpha and epsilon on: raise prompts.validation_samples")
    losses = {pair: log_loss(labels, consistency(general, reasoned, *pair)) for pair in product(alphas, epsilons)}
    return min(losses, key=lambda pair: losses[pair])


def stack_features(members: Sequence[Opinion], facts: Floats | None) -> Floats:
    """Log-odds of every member; with `facts` (n, f) these too, and each member's log-odds shrunk by its variance.

    Shape (n, k). A member that was not asked about a row has no say there: 0.
    """
    odds = [np.where(np.isfinite(one.variance), log_odds(one.p_yes), 0.0) for one in members]
    if facts is None:
        return np.column_stack(odds)
    spread = [np.sqrt(np.where(np.isfinite(one.variance), one.variance, 0.0)) for one in members]
    told = [column for column in spread if np.ptp(column) > 0]
    shrunk = [given * column for given, column in zip(odds, spread, strict=True) if np.ptp(column) > 0]
    return np.column_stack([*odds, *told, *shrunk, facts])


def stack(features: Floats, valid: np.ndarray[tuple[int], np.dtype[np.bool_]], labels: Labels) -> Floats:
    """P(yes) (n,) of a ridge logistic regression on `features` (n, k), fitted on the rows that are `valid`.

    `labels` (n,) of other rows are not looked at. Raises DataError where validation rows are of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if np.unique(labels[valid]).size < 2:
        raise DataError("validation rows of one class cannot fit a stack: raise prompts.validation_samples")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / _RIDGE, max_iter=1000))
    model.fit(features[valid], labels[valid])
    return np.asarray(model.predict_proba(features)[:, 1], dtype=np.float64)


def best_member(members: Sequence[Opinion], labels: Labels) -> int:
    """The one with the least log loss on these (validation) rows."""
    return int(np.argmin([log_loss(labels, member.p_yes) for member in members]))
