"""How sure a metric is: bootstrap errors of one method, and paired differences of two on the same rows.

Rows are resampled with replacement. A resample is kept as the count of each row, so AUC costs one cumulative
sum over rows that were sorted once, and all methods see the same resamples, which is what pairs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rallrec_pipeline.evaluation.metrics import CLIP, METRICS, check_predictions

Floats = NDArray[np.float64]
_CELLS = 1 << 20  # counts held at a time: 8 MB


@dataclass(frozen=True)
class Interval:
    """Standard error and 95% percentile interval of one metric."""

    se: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One metric of a first method minus that of a second, with its paired bootstrap error.

    `p_value` is two-sided: twice the share of resamples on the far side of zero (at least 1 / (resamples + 1)).
    """

    difference: float
    se: float
    low: float
    high: float
    p_value: float


def bootstrap_metrics(
    labels: ArrayLike, predictions: Mapping[str, ArrayLike], resamples: int = 1000, seed: int = 0
) -> dict[str, Floats]:
    """Metrics of every method on the same resamples: method -> (resamples, 3) in the order of METRICS.

    The AUC of a resample of one class is NaN. Raises DataError on rows that cannot be scored.
    """
    scorers = {method: _Scorer(*check_predictions(labels, p)) for method, p in predictions.items()}
    results: dict[str, list[Floats]] = {method: [] for method in scorers}
    rows = np.asarray(labels).size
    for counts in _resample_counts(rows, resamples, np.random.default_rng(seed)):
        for method, scorer in scorers.items():
            results[method].append(scorer(counts))
    return {method: np.concatenate(parts) for method, parts in results.items()}


def intervals(samples: Floats) -> dict[str, Interval]:
    """Errors by metric from the (resamples, 3) of `bootstrap_metrics`."""
    return {name: _interval(samples[:, i]) for i, name in enumerate(METRICS)}


def differences(first: Floats, second: Floats, point: Floats) -> dict[str, Difference]:
    """Differences by metric from two (resamples, 3) of the same call, around the observed `point` (3,)."""
    return {name: _difference(first[:, i] - second[:, i], float(point[i])) for i, name in enumerate(METRICS)}


class _Scorer:
    """Metrics of one method on weighted rows; everything that resampling does not change is done once."""

    def __init__(self, labels: NDArray[np.int8], p: Floats) -> None:
        self.order = np.argsort(p, kind="stable")
        ordered = p[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # first row of each tie
        self.positive = labels[self.order].astype(np.float64)
        clipped = np.clip(p, CLIP, 1 - CLIP)
        self.loss = -np.log(np.where(labels == 1, clipped, 1 - clipped))
        self.correct = ((p > 0.5) == (labels == 1)).astype(np.float64)

    def __call__(self, counts: Floats) -> Floats:
        """(resamples, n) row counts -> (resamples, 3)."""
        rows = counts.shape[1]
        return np.column_stack([self._auc(counts), counts @ self.loss / rows, counts @ self.correct / rows])

    def _auc(self, counts: Floats) -> Floats:
        """Share of (yes, no) pairs ranked rightly, ties counting half."""
        counts = counts[:, self.order]
        yes = counts * self.positive
        no = counts - yes
        if self.starts.size < self.order.size:
            yes, no = (np.add.reduceat(part, self.starts, axis=1) for part in (yes, no))
        below = np.cumsum(no, axis=1)
        pairs = yes.sum(axis=1) * below[:, -1]
        right = np.einsum("ij,ij->i", yes, below - 0.5 * no)
        auc: Floats = np.divide(right, pairs, out=np.full(pairs.size, np.nan), where=pairs > 0)
        return auc


def _resample_counts(rows: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each row is drawn, (chunk, rows) at a time."""
    chunk = max(1, _CELLS // rows)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(0, rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _interval(values: Floats) -> Interval:
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(finite, (0.025, 0.975))
    return Interval(float(finite.std(ddof=1)), float(low), float(high))


def _difference(values: Floats, point: float) -> Difference:
    spread = _interval(values)
    finite = values[np.isfinite(values)]
    tail = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    p_value = min(1.0, (2 * tail + 1) / (finite.size + 1))
    return Difference(point, spread.se, spread.low, spread.high, p_value)
