"""Whether a probability means what it says: bins, ECE, histograms; and the points of a ROC curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels, check_predictions

BINS = 10
HISTOGRAM_BINS = 20
ROC_POINTS = 200


@dataclass(frozen=True)
class Reliability:
    """Bins of equally many rows: mean prediction, share of "yes", and rows, each (bins,)."""

    predicted: Floats
    observed: Floats
    counts: NDArray[np.int64]

    def ece(self) -> float:
        """Expected calibration error: mean |share of "yes" - mean prediction|, bins weighing as they have rows."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.counts))


def bin_codes(p: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each row, (n,), in order of p: of equally many rows, but rows of equal p share a bin."""
    if p.size == 0:
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    codes = np.searchsorted(edges, p, side="left")
    return np.asarray(np.unique(codes, return_inverse=True)[1], dtype=np.int64)  # a bin without rows is none


def reliability_curve(labels: ArrayLike, p_yes: ArrayLike, bins: int = BINS) -> Reliability:
    """Observed against predicted P(yes) in quantile bins; rows of equal p_yes share a bin."""
    y, p = check_predictions(labels, p_yes)
    codes = bin_codes(p, bins)
    counts = np.bincount(codes)
    predicted, observed = (np.bincount(codes, weights=part) / counts for part in (p, y.astype(np.float64)))
    return Reliability(predicted, observed, counts)


def told_reliability(labels: Labels, p: Floats) -> list[dict[str, float]]:
    """The bins as plain values: `p` (mean prediction), `share_liked`, `n`; empty without rows."""
    if p.size == 0:
        return []
    curve = reliability_curve(labels, p)
    columns = zip(curve.predicted.tolist(), curve.observed.tolist(), curve.counts.tolist(), strict=True)
    return [{"p": mean, "share_liked": share, "n": count} for mean, share, count in columns]


def roc_points(labels: Labels, p: Floats, most: int = ROC_POINTS) -> dict[str, list[float]] | None:
    """`false_positive_rate` and `true_positive_rate` from (0, 0) to (1, 1), at most `most` points.

    None where all rows (n,) are of one class.
    """
    liked = (labels == 1)[np.argsort(-p, kind="stable")]
    ordered = np.sort(p)[::-1]
    if liked.all() or not liked.any():
        return None
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])  # the last row of each p
    right = np.r_[0, np.cumsum(liked)[ends]]
    wrong = np.r_[0, np.cumsum(~liked)[ends]]
    kept = np.unique(np.linspace(0, right.size - 1, min(most, right.size)).round().astype(int))
    rates = {"false_positive_rate": wrong[kept] / wrong[-1], "true_positive_rate": right[kept] / right[-1]}
    return {name: rate.round(6).tolist() for name, rate in rates.items()}


def histogram(labels: Labels, p: Floats, bins: int = HISTOGRAM_BINS) -> dict[str, list[Any]]:
    """How many liked and disliked rows have a p between each two `edges`, which part [0, 1] evenly."""
    edges = np.linspace(0, 1, bins + 1)
    liked, disliked = (np.histogram(p[labels == label], edges)[0].tolist() for label in (1, 0))
    return {"edges": edges.round(6).tolist(), "liked": liked, "disliked": disliked}
