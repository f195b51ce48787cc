"""What merging and asking cost and bring, as curves: eq. 10 over alpha and epsilon, cascades over the share asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.measures.banded import with_bands
from rallrec_pipeline.evaluation.measures.by_user import Codes
from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels
from rallrec_pipeline.reasoning.cascade import KNEE, SHARES, asked_first
from rallrec_pipeline.reasoning.merge import ALPHAS, EPSILONS, consistency
from rallrec_pipeline.reasoning.opinions import Opinion


@dataclass(frozen=True)
class Sweep:
    """Eq. 10 on test rows, (n,): its two sides and what is in force."""

    title: str
    general: Opinion
    reasoned: Opinion
    labels: Labels
    users: Codes
    alpha: float
    epsilon: float


@dataclass(frozen=True)
class CascadeRows:
    """A cascade on test rows, each (n,), and what validation chose."""

    title: str
    labels: Labels
    users: Codes
    expert: Floats
    dear: Floats
    order: Floats
    asked: NDArray[np.bool_]
    told: Mapping[str, Any]
    """`order`, `knee`, `tokens_per_row_asked` and the like."""


def sweep_told(sweep: Sweep, resamples: int, seed: int) -> dict[str, Any]:
    """Figures 6 and 7: eq. 10 over alpha at the epsilon in force, and over epsilon at the alpha in force."""

    def points(pairs: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
        predicted = {pair: consistency(sweep.general, sweep.reasoned, *pair) for pair in pairs}
        found = with_bands(sweep.labels, predicted, sweep.users, ("auc", "accuracy", "log_loss"), resamples, seed)
        return [{"alpha": alpha, "epsilon": epsilon} | found[alpha, epsilon] for alpha, epsilon in pairs]

    return {
        "title": sweep.title,
        "alpha": points([(alpha, sweep.epsilon) for alpha in sorted({*ALPHAS, sweep.alpha})]),
        "epsilon": points([(sweep.alpha, epsilon) for epsilon in sorted({*EPSILONS, sweep.epsilon})]),
        "in_force": {"alpha": sweep.alpha, "epsilon": sweep.epsilon},
    }


def cascade_told(rows: CascadeRows, resamples: int, seed: int) -> dict[str, Any]:
    """Measures over the share of rows asked, from none to all, and what was chosen on validation."""
    tokens = float(rows.told.get("tokens_per_row_asked") or 0.0)
    predicted = {share: np.where(asked_first(rows.order, share), rows.dear, rows.expert) for share in SHARES.tolist()}
    measures = ("auc", "accuracy", "log_loss", "uauc")
    found = with_bands(rows.labels, predicted, rows.users, measures, resamples, seed)
    return {
        "title": rows.title,
        "order": rows.told["order"],
        "curve": [
            {"share": share, "tokens_per_million": tokens * share * 1e6} | point for share, point in found.items()
        ],
        "share_asked": float(rows.asked.mean()) if rows.asked.size else None,
        "knee": rows.told["knee"],
        "kept_at_knee": KNEE,
    }
