"""How sure a figure is, and a difference of two: standard errors, intervals and p from bootstrap resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rallrec_pipeline.evaluation.measures.metrics import Floats

ALPHA = 0.05
_TAILS = (0.025, 0.975)
_NAN = float("nan")


@dataclass(frozen=True)
class Interval:
    """Standard error and 95% interval of one measure; NaN where fewer than two resamples define it."""

    se: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One measure of a first method minus that of a second, with its paired bootstrap error.

    `p_value` is two-sided: twice the share of resamples on the far side of zero, the observed difference counting as
    one of them, so at least `smallest_p`; NaN where fewer than two resamples define the difference.
    """

    difference: float
    se: float
    low: float
    high: float
    p_value: float


def interval(resampled: Floats) -> Interval:
    """The percentile interval of one measure by resample, (resamples,)."""
    finite = resampled[np.isfinite(resampled)]
    if finite.size < 2:
        return Interval(_NAN, _NAN, _NAN)
    low, high = np.quantile(finite, _TAILS)
    return Interval(float(finite.std(ddof=1)), float(low), float(high))


def reflected(resampled: Floats, point: float) -> Interval:
    """The interval of a measure that noise can only raise, such as ECE: the percentile interval mirrored at `point`.

    Resampling adds noise a second time, so the resamples lie about as far above the figure as the figure above the
    truth, and less so near 0: of a perfectly calibrated method it holds 0 half the time. It holds nothing below zero.
    """
    found = interval(resampled)
    if np.isnan(found.se):
        return found
    return Interval(found.se, max(0.0, 2 * point - found.high), max(point, 2 * point - found.low))


def difference(first: Floats, second: Floats, point: float) -> Difference:
    """From one measure of two methods on the same resamples, each (resamples,), around the observed `point`."""
    values = first - second
    found = interval(values)
    if np.isnan(found.se):
        return Difference(point, _NAN, _NAN, _NAN, _NAN)
    finite = values[np.isfinite(values)]
    tail = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return Difference(point, found.se, found.low, found.high, min(1.0, (tail + 1) * smallest_p(finite.size)))


def smallest_p(resamples: int) -> float:
    """The least two-sided p that so many resamples can give."""
    return 2 / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p values of one family, in order, such that those below 5% hold together with 95%.

    NaN stays NaN and is no member of the family.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    corrected = np.full(p.size, np.nan)
    factors = np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return [float(value) for value in corrected]
