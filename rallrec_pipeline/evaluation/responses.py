"""How the reasoner's responses behave: their length, agreement and cost, and what merging and the cascade make of them.

Tables 7 and figures 2, 3, 6, 7 and 9 of RALLRec+. All figures are of test rows; what validation chose is only shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.by_user import uauc
from rallrec_pipeline.evaluation.metrics import Floats, Labels, area_under_roc, row_scores
from rallrec_pipeline.evaluation.papers import published_tokens
from rallrec_pipeline.reasoning.cascade import KNEE, SHARES, asked_first
from rallrec_pipeline.reasoning.merge import ALPHAS, EPSILONS, consistency
from rallrec_pipeline.reasoning.opinions import Opinion

QUINTILES = 5
WINDOW = 500
"""Rows of the sliding window of figure 3; a quarter of the rows where there are fewer than twice as many."""
POINTS = 40  # places of the window that are shown


@dataclass(frozen=True)
class Sweep:
    """Eq. 10 on test rows, (n,): its two sides and what is in force."""

    title: str
    general: Opinion
    reasoned: Opinion
    labels: Labels
    alpha: float
    epsilon: float


@dataclass(frozen=True)
class CascadeRows:
    """A cascade on test rows, each (n,), and what validation chose."""

    title: str
    labels: Labels
    users: NDArray[np.int64]
    expert: Floats
    dear: Floats
    order: Floats
    asked: NDArray[np.bool_]
    told: Mapping[str, Any]
    """`order`, `knee`, `tokens_per_row_asked` and the like."""


@dataclass(frozen=True)
class ReasoningParts:
    """What is told of responses, merges and cascades.

    `rows` is REASONED_ROWS and `traces` TRACES, of all methods.
    """

    titles: Mapping[str, str]
    rows: pl.DataFrame
    traces: pl.DataFrame
    paper_dataset: str | None = None
    general: tuple[str, float] | None = None
    """Title of a method of the LLM without a thought, and the seconds that it takes for a row."""
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    cascades: Mapping[str, CascadeRows] = field(default_factory=dict)


def responses_told(parts: ReasoningParts) -> dict[str, Any]:
    """JSON-able figures; what cannot be computed is NaN or None."""
    test, traces = (frame.filter(pl.col("split") == "test") for frame in (parts.rows, parts.traces))
    return {
        "responses": {
            str(name): _responses(own, traces.filter(pl.col("method") == name), parts.titles[str(name)])
            for (name,), own in test.group_by(["method"], maintain_order=True)
        },
        "published_tokens": published_tokens(parts.paper_dataset),
        "general": {"title": parts.general[0], "seconds": parts.general[1]} if parts.general else None,
        "sweeps": {name: _swept(sweep) for name, sweep in parts.sweeps.items()},
        "cascades": {name: _cascade(rows) for name, rows in parts.cascades.items()},
    }


def _responses(rows: pl.DataFrame, traces: pl.DataFrame, title: str) -> dict[str, Any]:
    asked = rows.filter(pl.col("traces") > 0)
    lengths = traces["tokens"].to_numpy()
    return {
        "title": title,
        "rows": rows.height,
        "rows_asked": asked.height,
        "responses": traces.height,
        "tokens_per_response": float(lengths.mean()) if lengths.size else None,
        "tokens_percentiles": [float(np.percentile(lengths, q)) for q in (10, 50, 90)] if lengths.size else None,
        "seconds_per_response": _mean(traces, "seconds"),
        "unanswered_share": _mean(traces.select((pl.col("answer") == "").cast(pl.Float64)), "answer"),
        "marks": {str(mark): n for mark, n in traces.group_by("mark").len().sort("mark").rows() if mark},
        "by_length": list(_by_length(asked)),
        "by_variance": _by_variance(asked),
    }


def _by_length(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Figure 2: fifths of the rows by the mean length of their responses."""
    ordered = rows.sort("tokens", "sample_id")
    for part in np.array_split(np.arange(rows.height), QUINTILES):
        own = ordered[part.tolist()]
        if own.height:
            low, high = float(own["tokens"].min()), float(own["tokens"].max())
            yield {"low": low, "high": high, "n": own.height} | _judged(
                own["label"].to_numpy(), own["p_yes"].to_numpy()
            )


def _by_variance(rows: pl.DataFrame) -> dict[str, Any]:
    """Figure 3: a window over the rows by rising variance of their responses."""
    ordered = rows.filter(pl.col("variance").is_not_null()).sort("variance", "sample_id")
    width = WINDOW if ordered.height >= 2 * WINDOW else ordered.height // 4
    if width == 0:
        return {"window": 0, "points": []}
    labels, p, variance = (ordered[name].to_numpy() for name in ("label", "p_yes", "variance"))
    starts = np.unique(np.linspace(0, ordered.height - width, POINTS).round().astype(int))
    points = [
        {"variance": float(np.median(variance[at : at + width]))} | _judged(labels[at : at + width], p[at : at + width])
        for at in starts.tolist()
    ]
    return {"window": width, "points": points}


def _swept(sweep: Sweep) -> dict[str, Any]:
    """Figures 6 and 7: eq. 10 over alpha at the epsilon in force, and over epsilon at the alpha in force."""

    def points(pairs: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
        return [
            {"alpha": alpha, "epsilon": epsilon}
            | _judged(sweep.labels, consistency(sweep.general, sweep.reasoned, alpha, epsilon))
            for alpha, epsilon in pairs
        ]

    return {
        "title": sweep.title,
        "alpha": points([(alpha, sweep.epsilon) for alpha in sorted({*ALPHAS, sweep.alpha})]),
        "epsilon": points([(sweep.alpha, epsilon) for epsilon in sorted({*EPSILONS, sweep.epsilon})]),
        "in_force": {"alpha": sweep.alpha, "epsilon": sweep.epsilon},
    }


def _cascade(rows: CascadeRows) -> dict[str, Any]:
    """Measures over the share of rows asked, from none to all, and what was chosen on validation."""
    tokens = float(rows.told.get("tokens_per_row_asked") or 0.0)
    curve = []
    for share in SHARES.tolist():
        p = np.where(asked_first(rows.order, share), rows.dear, rows.expert)
        judged = _judged(rows.labels, p) | {"uauc": uauc(rows.users, rows.labels, p)}
        curve.append({"share": share, "tokens_per_million": tokens * share * 1e6} | judged)
    return {
        "title": rows.title,
        "order": rows.told["order"],
        "curve": curve,
        "share_asked": float(rows.asked.mean()) if rows.asked.size else None,
        "knee": rows.told["knee"],
        "kept_at_knee": KNEE,
    }


def _judged(labels: Labels, p: Floats) -> dict[str, float]:
    if labels.size == 0:
        return dict.fromkeys(("auc", "accuracy", "log_loss"), float("nan"))
    loss, right, _ = row_scores(labels, p).mean(axis=0).tolist()
    return {"auc": area_under_roc(labels, p), "accuracy": right, "log_loss": loss}


def _mean(rows: pl.DataFrame, column: str) -> float | None:
    found = rows[column].mean()
    return None if found is None else float(found)  # type: ignore[arg-type]
