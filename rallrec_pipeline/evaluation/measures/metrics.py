"""What a prediction is judged by, row by row: AUC, log loss, accuracy, Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rallrec_pipeline.errors import DataError

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

METRICS = ("auc", "log_loss", "accuracy")
"""The papers' three."""
MEASURES = ("auc", "uauc", "gauc", "log_loss", "accuracy", "ece", "brier")
"""Every measure of a report (docs/measures.md)."""
PROBABILITY = ("log_loss", "accuracy", "ece", "brier")
"""Those that a calibration changes; the others look at the order of the rows alone."""
RAW = tuple(f"{name}_raw" for name in PROBABILITY)
"""The same before the calibration."""
HIGHER_IS_BETTER = frozenset({"auc", "uauc", "gauc", "accuracy"})
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
CLIP = 1e-7  # keeps one overconfident row from making the log loss infinite


@dataclass(frozen=True)
class Metrics:
    """Scores of one method: AUC (higher is better), log loss in nats (lower), accuracy (higher)."""

    auc: float
    log_loss: float
    accuracy: float


def evaluate(labels: ArrayLike, p_yes: ArrayLike) -> Metrics:
    """Metrics of probabilities `p_yes` (n,) against `labels` (n,) of 0 and 1.

    A row counts as "yes" when p_yes > 0.5; probabilities are clipped to [1e-7, 1 - 1e-7] for the log loss.
    Raises DataError when lengths differ, a probability is none, or only one class is there.
    """
    y, p = check_predictions(labels, p_yes)
    if y.min() == y.max():
        raise DataError(f"all {y.size} labels are {int(y[0])}, so AUC is undefined: evaluate on rows of both classes")
    loss, correct, _ = row_scores(y, p).mean(axis=0).tolist()
    return Metrics(area_under_roc(y, p), loss, correct)


def area_under_roc(labels: Labels, p: Floats) -> float:
    """Share of the pairs of a liked and a disliked row that are ranked rightly, ties counting half.

    NaN where all rows (n,) are of one class.
    """
    liked, disliked = p[labels == 1], p[labels == 0]
    pairs = liked.size * disliked.size
    return float(count_below(disliked, liked).sum() / pairs) if pairs else float("nan")


def count_below(among: Floats, values: Floats) -> Floats:
    """How many of `among` (m,) lie below each of `values` (n,), (n,); equal ones count half."""
    ordered = np.sort(among)
    below, upto = (np.searchsorted(ordered, values, side) for side in SIDES)
    return np.asarray(0.5 * (below + upto))


def row_scores(labels: Labels, p: Floats) -> Floats:
    """Log loss in nats, rightness at 0.5 and squared error of each row, (n, 3)."""
    clipped = np.clip(p, CLIP, 1 - CLIP)
    loss = -np.log(np.where(labels == 1, clipped, 1 - clipped))
    return np.column_stack([loss, (p > 0.5) == (labels == 1), (p - labels) ** 2])


def check_predictions(labels: ArrayLike, p_yes: ArrayLike) -> tuple[Labels, Floats]:
    """`labels` as int8 and `p_yes` as float64, both (n,). Raises DataError when they cannot be scored."""
    y, p = np.asarray(labels), np.asarray(p_yes, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or y.size == 0:
        raise DataError(f"cannot score labels of shape {y.shape} with p_yes of shape {p.shape}: give one p_yes a row")
    if bad := int(np.sum(~((p >= 0) & (p <= 1)))):  # NaN fails the comparison too
        raise DataError(f"{bad} of {p.size} values of p_yes are not in [0, 1]: score the rows again")
    if not np.isin(y, (0, 1)).all():
        raise DataError("labels must be 0 or 1: make the samples again")
    return y.astype(np.int8), p
