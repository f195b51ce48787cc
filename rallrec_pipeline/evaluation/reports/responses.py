"""How the reasoner's responses behave: their length, agreement and cost, and what merging and the cascade make of them.

Tables 7 and figures 2, 3, 6, 7 and 9 of RALLRec+. All figures are of test rows; what validation chose is only shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.banded import with_bands
from rallrec_pipeline.evaluation.measures.merge_curves import CascadeRows, Sweep, cascade_told, sweep_told
from rallrec_pipeline.evaluation.reports.papers import published_tokens

QUINTILES = 5
WINDOW = 500
"""Rows of the sliding window of figure 3; a quarter of the rows where there are fewer than twice as many."""
POINTS = 40  # places of the window that are shown


@dataclass(frozen=True)
class ReasoningParts:
    """What is told of responses, merges and cascades.

    `rows` is REASONED_ROWS with the code of each row's `user`, and `traces` TRACES, of all methods.
    """

    titles: Mapping[str, str]
    rows: pl.DataFrame
    traces: pl.DataFrame
    paper_dataset: str | None = None
    general: tuple[str, float] | None = None
    """Title of a method of the LLM without a thought, and the seconds that it takes for a row."""
    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    cascades: Mapping[str, CascadeRows] = field(default_factory=dict)


@dataclass(frozen=True)
class _Judge:
    """Figures of rows with errors over their users."""

    resamples: int
    seed: int

    def __call__(self, rows: pl.DataFrame) -> dict[str, Any]:
        """AUC, accuracy and log loss of `rows`, with `_se` and `_ci`."""
        labels, users, p = (rows[name].to_numpy() for name in ("label", "user", "p_yes"))
        return with_bands(labels, {"": p}, users, ("auc", "accuracy", "log_loss"), self.resamples, self.seed)[""]


def responses_told(parts: ReasoningParts, resamples: int, seed: int) -> dict[str, Any]:
    """JSON-able figures, each with its error over users; what cannot be computed is NaN or None."""
    judge = _Judge(resamples, seed)
    test, traces = (frame.filter(pl.col("split") == "test") for frame in (parts.rows, parts.traces))
    return {
        "responses": {
            str(name): _responses(own, traces.filter(pl.col("method") == name), parts.titles[str(name)], judge)
            for (name,), own in test.group_by(["method"], maintain_order=True)
        },
        "published_tokens": published_tokens(parts.paper_dataset),
        "general": {"title": parts.general[0], "seconds": parts.general[1]} if parts.general else None,
        "sweeps": {name: sweep_told(sweep, resamples, seed) for name, sweep in parts.sweeps.items()},
        "cascades": {name: cascade_told(rows, resamples, seed) for name, rows in parts.cascades.items()},
    }


def _responses(rows: pl.DataFrame, traces: pl.DataFrame, title: str, judge: _Judge) -> dict[str, Any]:
    asked = rows.filter(pl.col("traces") > 0)
    return {
        "title": title,
        "rows": rows.height,
        "rows_asked": asked.height,
        "responses": traces.height,
        "tokens_per_response": _mean(traces, "tokens"),
        "tokens_percentiles": _percentiles(traces["tokens"]),
        "seconds_per_response": _mean(traces, "seconds"),
        "seconds_percentiles": _percentiles(traces["seconds"]),
        "unanswered_share": _mean(traces.select((pl.col("answer") == "").cast(pl.Float64)), "answer"),
        "marks": {str(mark): n for mark, n in traces.group_by("mark").len().sort("mark").rows() if mark},
        "by_length": list(_by_length(asked, judge)),
        "by_variance": _by_variance(asked, judge),
    }


def _by_length(rows: pl.DataFrame, judge: _Judge) -> Iterator[dict[str, Any]]:
    """Figure 2: fifths of the rows by the mean length of their responses."""
    ordered = rows.sort("tokens", "sample_id")
    for part in np.array_split(np.arange(rows.height), QUINTILES):
        own = ordered[part.tolist()]
        if own.height:
            low, high = float(own["tokens"].min()), float(own["tokens"].max())
            yield {"low": low, "high": high, "n": own.height} | judge(own)


def _by_variance(rows: pl.DataFrame, judge: _Judge) -> dict[str, Any]:
    """Figure 3: a window over the rows by rising variance of their responses."""
    ordered = rows.filter(pl.col("variance").is_not_null()).sort("variance", "sample_id")
    width = WINDOW if ordered.height >= 2 * WINDOW else ordered.height // 4
    if width == 0:
        return {"window": 0, "points": []}
    starts = np.unique(np.linspace(0, ordered.height - width, POINTS).round().astype(int))
    windows = [ordered[at : at + width] for at in starts.tolist()]
    return {"window": width, "points": [{"variance": own["variance"].median()} | judge(own) for own in windows]}


def _percentiles(values: pl.Series) -> list[float | None] | None:
    """The tenth, the middle and the ninetieth."""
    return [values.quantile(q, "linear") for q in (0.1, 0.5, 0.9)] if values.drop_nulls().len() else None


def _mean(rows: pl.DataFrame, column: str) -> float | None:
    found = rows[column].mean()
    return None if found is None else float(found)  # type: ignore[arg-type]
