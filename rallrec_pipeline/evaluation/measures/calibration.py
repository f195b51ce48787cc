"""Platt scaling of P(yes), fitted on validation rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rallrec_pipeline.evaluation.measures.metrics import Floats, check_predictions

_CLIP = 1e-12  # far below the metrics' own clipping, so that no ranks are lost
_SMALLEST_SLOPE = 1e-3


@dataclass(frozen=True)
class Platt:
    """p -> sigmoid(slope * logit(p) + intercept). The slope is positive, so AUC is never changed."""

    slope: float = 1.0
    intercept: float = 0.0

    def apply(self, p_yes: ArrayLike) -> Floats:
        """Calibrated probabilities, float64, of the shape of `p_yes`."""
        return _sigmoid(self.slope * _logit(np.asarray(p_yes, dtype=np.float64)) + self.intercept)


def fit_platt(p_yes: ArrayLike, labels: ArrayLike) -> Platt:
    """Platt scaling of validation probabilities (n,) against their labels (n,), by Newton's method.

    Targets are Platt's smoothed ones, so that a perfect separation still has a finite fit. Where the model ranks
    worse than chance, the smallest positive slope is taken: calibration must not turn a ranking round.
    Raises DataError on rows that cannot be scored.
    """
    y, p = check_predictions(labels, p_yes)
    positives = int(y.sum())
    targets = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (y.size - positives + 2))
    logits = _logit(p)
    slope, intercept = _newton(np.column_stack([logits, np.ones_like(logits)]), targets)
    if slope < _SMALLEST_SLOPE:
        slope = _SMALLEST_SLOPE
        (intercept,) = _newton(np.ones((logits.size, 1)), targets, offset=slope * logits)
    return Platt(float(slope), float(intercept))


def _newton(features: Floats, targets: Floats, offset: Floats | float = 0.0, steps: int = 100) -> Floats:
    """Weights (k,) of the logistic regression of soft `targets` on `features` (n, k), damped so that loss falls."""
    weights = np.zeros(features.shape[1])
    best = _loss(features @ weights + offset, targets)
    for _ in range(steps):
        p = _sigmoid(features @ weights + offset)
        hessian = (features * (p * (1 - p))[:, None]).T @ features + 1e-9 * np.eye(weights.size)
        step = np.linalg.solve(hessian, features.T @ (p - targets))
        scale = 1.0
        while (loss := _loss(features @ (weights - scale * step) + offset, targets)) > best and scale > 1e-6:
            scale /= 2
        if best - loss < 1e-12:
            break
        weights, best = weights - scale * step, loss
    return weights


def _loss(logits: Floats, targets: Floats) -> float:
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float64)
