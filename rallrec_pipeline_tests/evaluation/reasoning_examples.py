"""Responses, a merge and a cascade of one small reasoner, as the stages give them to a report."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.merge_curves import CascadeRows, Sweep
from rallrec_pipeline.evaluation.measures.metrics import Floats
from rallrec_pipeline.evaluation.reports.responses import ReasoningParts
from rallrec_pipeline.reasoning.opinions import Opinion

TITLES = {"reasoned": "reasoning, with retrieval", "reasoned_told": "reasoning, told the tuned LLM's answer"}


def responses(rows: int = 200, users: int = 40, traces: int = 3, seed: int = 0) -> ReasoningParts:
    """Test rows of `users` users, each asked `traces` times in two ways; the second way is the better one."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, rows)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    user = rng.integers(0, users, rows)

    def said(noise: float) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(logit + rng.normal(0, noise, rows)))))

    variance = rng.gamma(1.0, 0.01, rows)
    by_row, by_trace = [], []
    for name, noise in zip(TITLES, (2.0, 0.8), strict=True):
        about = {"method": name, "split": "test", "sample_id": np.arange(rows), "label": labels}
        tokens = rng.integers(8, 60, rows).astype(np.float64)
        by_row.append(
            pl.DataFrame(about | {"p_yes": said(noise), "variance": variance, "user": user}).with_columns(
                traces=pl.lit(traces), tokens=pl.Series(tokens)
            )
        )
        for trace in range(traces):
            answer = ["" if one % 5 == 0 else "Yes" for one in range(rows)]
            lengths = {"tokens": tokens.astype(np.int64), "seconds": tokens * 0.02 * (1 + trace / 10)}
            marks = ["cut off" if not one else "" for one in answer]
            by_trace.append(pl.DataFrame(about | {"trace": trace, "answer": answer, "mark": marks} | lengths))
    general = Opinion(said(0.6), rng.gamma(1.0, 0.004, rows))
    sweep = Sweep("RALLRec+: eq. 10", general, Opinion(said(0.8), variance), labels, user, 0.1, 1e-3)
    expert, dear = said(0.8), said(0.3)
    order = 1 - 2 * np.abs(expert - 0.5)
    told = {"order": "doubt", "knee": 0.35, "tokens_per_row_asked": 420.0}
    cascade = CascadeRows(
        "the expert, and the LLM where that pays", labels, user, expert, dear, order, order > 0.6, told
    )
    return ReasoningParts(
        TITLES,
        pl.concat(by_row),
        pl.concat(by_trace),
        "movielens-1m",
        ("RALLRec: tuned, retrieved and reranked", 0.07),
        {"rallrec_plus": sweep},
        {"cascade": cascade},
    )
