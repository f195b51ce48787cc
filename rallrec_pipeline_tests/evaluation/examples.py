"""Small predictions and reports that the tests of this folder share."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.report import ReportContext, build_report

NOISE = {"zero_shot_rating": 1.5, "recent": 1.0, "rallrec": 0.4, "item_mean": 2.0, "boosted_trees": 0.5}


def predictions(rows: int = 300, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Test predictions of five methods on the same rows, the better the smaller their noise."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, rows)
    labels = pl.Series("label", rng.random(rows) < 1 / (1 + np.exp(-logit))).cast(pl.Int8)
    ids = pl.Series("sample_id", np.arange(rows) + 1000, dtype=pl.Int64)
    return {
        method: pl.DataFrame([ids, labels]).with_columns(
            p_yes=pl.Series(1 / (1 + np.exp(-(logit + rng.normal(0, noise, rows)))))
        )
        for method, noise in NOISE.items()
    }


def report(**changes: Any) -> dict[str, Any]:
    """A report on `predictions()`; `changes` replace fields of its context or titles."""
    titles = changes.pop("titles", {"rallrec": "RALLRec: tuned"})
    context = {
        "dataset": "movielens-100k",
        "title": "MovieLens-100K",
        "profile": "demo",
        "seed": 3,
        "n_train": 256,
        "n_train_baselines": 75_657,
        "paper_dataset": "movielens-1m",
        "provenance": {"samples": {"data_version": "abc"}},
    } | changes
    seconds = {"rallrec": 403.0, "boosted_trees": 0.5}
    return build_report(ReportContext(**context), predictions(), seconds, titles, resamples=100)


PNG = b"\x89PNG\r\n\x1a\n"
ATTACK = '<script>alert("x")</script>'


class Tags(HTMLParser):
    """Open tags of a page, and whether each is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
