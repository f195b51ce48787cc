"""The papers' three metrics of a click-through prediction: AUC, log loss and accuracy at 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rallrec_pipeline.errors import DataError

METRICS = ("auc", "log_loss", "accuracy")
CLIP = 1e-7  # keeps one overconfident row from making the log loss infinite


@dataclass(frozen=True)
class Metrics:
    """Scores of one method: AUC (higher is better), log loss in nats (lower), accuracy (higher)."""

    auc: float
    log_loss: float
    accuracy: float

    def as_array(self) -> NDArray[np.float64]:
        """Values in the order of METRICS, shape (3,)."""
        return np.array([getattr(self, name) for name in METRICS])


def evaluate(labels: ArrayLike, p_yes: ArrayLike) -> Metrics:
    """Metrics of probabilities `p_yes` (n,) against `labels` (n,) of 0 and 1.

    A row counts as "yes" when p_yes > 0.5; probabilities are clipped to [1e-7, 1 - 1e-7] for the log loss.
    Raises DataError when lengths differ, a probability is none, or only one class is there.
    """
    from sklearn.metrics import log_loss, roc_auc_score

    y, p = check_predictions(labels, p_yes)
    if y.min() == y.max():
        raise DataError(f"all {y.size} labels are {int(y[0])}, so AUC is undefined: evaluate on rows of both classes")
    return Metrics(
        auc=float(roc_auc_score(y, p)),
        log_loss=float(log_loss(y, np.clip(p, CLIP, 1 - CLIP))),
        accuracy=float(np.mean((p > 0.5) == (y == 1))),
    )


def check_predictions(labels: ArrayLike, p_yes: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """`labels` as int8 and `p_yes` as float64, both (n,). Raises DataError when they cannot be scored."""
    y, p = np.asarray(labels), np.asarray(p_yes, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or y.size == 0:
        raise DataError(f"cannot score labels of shape {y.shape} with p_yes of shape {p.shape}: give one p_yes a row")
    if bad := int(np.sum(~((p >= 0) & (p <= 1)))):  # NaN fails the comparison too
        raise DataError(f"{bad} of {p.size} values of p_yes are not in [0, 1]: score the rows again")
    if not np.isin(y, (0, 1)).all():
        raise DataError("labels must be 0 or 1: make the samples again")
    return y.astype(np.int8), p
