"""What a model says of each row: P(yes), and how far several runs of it are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]
_CLIP = 1e-6


@dataclass(frozen=True)
class Opinion:
    """P(yes) (n,), and its variance over runs or traces (n,).

    A variance of 0 says that there is one run only; an infinite one that the model was not asked about the row.
    """

    p_yes: Floats
    variance: Floats

    def at(self, rows: NDArray[np.bool_]) -> Opinion:
        """The same of some rows."""
        return Opinion(self.p_yes[rows], self.variance[rows])


def over_runs(main: Floats, others: Sequence[Floats]) -> Opinion:
    """P(yes) of the run `main` (n,), with the variance over it and `others`, each (n,); unbiased, 0 without others."""
    if not others:
        return Opinion(main, np.zeros_like(main))
    return Opinion(main, np.var([main, *others], axis=0, ddof=1))


def over_traces(rows: NDArray[np.int64], p_yes: Floats, fallback: Floats) -> Opinion:
    """Mean and unbiased variance of the traces' `p_yes` (t,) by their row numbers `rows` (t,).

    A row without a trace has its `fallback` (n,) and an infinite variance. One with a single trace says nothing of its
    variance: it has the mean of the others', which is 0 where there are none.
    """
    n = fallback.size
    count, total = np.bincount(rows, minlength=n), np.bincount(rows, p_yes, minlength=n)
    mean = np.where(count > 0, total / np.maximum(count, 1), fallback)
    squares = np.bincount(rows, (p_yes - mean[rows]) ** 2, minlength=n)
    several = count > 1
    variance = squares / np.maximum(count - 1, 1)
    pooled = float(variance[several].mean()) if several.any() else 0.0
    return Opinion(mean, np.where(several, variance, np.where(count == 1, pooled, np.inf)))


def log_odds(p: Floats) -> Floats:
    """Of probabilities, kept away from 0 and 1."""
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def row_losses(labels: Labels, p: Floats) -> Floats:
    """Log loss of each row in nats, (n,)."""
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(-np.log(np.where(labels == 1, clipped, 1 - clipped)))


def log_loss(labels: Labels, p: Floats) -> float:
    """Mean log loss in nats."""
    return float(np.mean(row_losses(labels, p)))
