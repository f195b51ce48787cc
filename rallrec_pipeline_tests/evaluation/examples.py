"""Small predictions, reports and profiles that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.profile import profile_dataset
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.evaluation.measures.costs import Cost
from rallrec_pipeline.evaluation.measures.metrics import Floats, Labels
from rallrec_pipeline.evaluation.reports.evaluation_report import ReportContext, Scored, build_report
from rallrec_pipeline.evaluation.reports.study import StudyContext, build_study
from rallrec_pipeline.evaluation.reports.study_parts import StudyParts
from rallrec_pipeline_tests.datasets.worlds import frame, make_spec

NOISE = {"zero_shot_rating": 1.5, "recent": 1.0, "rallrec": 0.4, "item_mean": 2.0, "boosted_trees": 0.5}
BASELINES = ("item_mean", "boosted_trees")


def rows_of(n: int, seed: int, noise: float = 1.0, users: int = 10) -> tuple[Labels, Floats, NDArray[np.int64]]:
    """Labels, the probabilities that they were drawn from with noise on the logit, and the user of each row."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(logit + rng.normal(0, noise, n)))), rng.integers(0, users, n)


def predictions(rows: int = 300, seed: int = 0, valid: int = 100) -> dict[str, pl.DataFrame]:
    """Predictions of five methods on the same test rows, from 1000 on, and after them `valid` validation rows.

    They are the better the smaller their noise.
    """
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, rows + valid)
    labels = pl.Series("label", rng.random(logit.size) < 1 / (1 + np.exp(-logit))).cast(pl.Int8)
    ids = pl.Series("sample_id", np.arange(logit.size) + 1000, dtype=pl.Int64)
    splits = pl.Series("split", ["test"] * rows + ["valid"] * valid, dtype=pl.String)
    return {
        method: pl.DataFrame([ids, splits, labels]).with_columns(
            p_yes=pl.Series(1 / (1 + np.exp(-(logit + rng.normal(0, noise, logit.size)))))
        )
        for method, noise in NOISE.items()
    }


def facts(rows: int = 300, users: int = 40, seed: int = 1) -> pl.DataFrame:
    """Users, lengths of histories and counts of items for the test rows of `predictions()`."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "sample_id": np.arange(rows) + 1000,
            "user_id": [f"u{user}" for user in rng.integers(0, users, rows)],
            "item_id": [f"i{item}" for item in rng.integers(0, 50, rows)],
            "history_length": rng.integers(1, 150, rows),
            "item_train_count": rng.integers(0, 120, rows),
        }
    )


def scored(frames: Mapping[str, pl.DataFrame], titles: Mapping[str, str] | None = None) -> dict[str, Scored]:
    """Methods with their kinds and costs, as a stage gives them to a report."""
    costs = {"rallrec": Cost(403.0, 500, 90_000, 500), "boosted_trees": Cost(0.5, 10_000, 0, 10_000)}
    told = titles or {}
    return {
        name: Scored(frame, told.get(name, name), "baseline" if name in BASELINES else "llm", costs.get(name, Cost()))
        for name, frame in frames.items()
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
    return build_report(ReportContext(**context), scored(predictions(), titles), facts(), resamples=100)


RULES = {"user_core": 2, "item_core": 8, "min_history": 1}
DAY = 86_400


def study_context(**changes: Any) -> StudyContext:
    """What a study of two variants is about; `variants` are their fingerprints, other `changes` replace fields."""
    variants = changes.pop("variants", _VARIANTS)
    named = [pair for found in variants.values() for pair in found.items()]
    provenance = {
        "command": "rallrec run movielens-100k --study which --profile demo",
        "study": {"variants": {name: {"seeds": {"fits": 7}} for name in list(variants)[1:]}},
        "variants": variants,
        "results": len(named),
        "distinct_results": len(set(named)),
        "computed_now": ["first: samples"],
    }
    fields = {
        "name": "which",
        "title": "Which is best?",
        "note": "A note.",
        "dataset": "movielens-100k",
        "dataset_title": "MovieLens-100K",
        "profile": "demo",
        "reference": "recent",
        "seed": 3,
        "provenance": provenance,
    } | changes
    return StudyContext(**fields)


def study(**changes: Any) -> dict[str, Any]:
    """The report of a study on `predictions()`; `changes` replace titles, or what `study_context` takes.

    With `one_class` all rows are liked.
    """
    titles = {name: f"title of {name}" for name in NOISE} | changes.pop("titles", {})
    frames = predictions()
    if changes.pop("one_class", False):
        frames = {name: frame.with_columns(label=pl.lit(1, pl.Int8)) for name, frame in frames.items()}
    return build_study(study_context(**changes), scored(frames, titles), 400, facts())


def parts(title: str = "The main comparison") -> StudyParts:
    """Two tables, the second with a reference of its own, two figures and a claim of each verdict."""
    return StudyParts(
        tables={
            "main": {
                "title": title,
                "note": f"note of {title}",
                "published": "rallrec_table_1_main",
                "rows": {"zero_shot_rating": "llama3.1", "boosted_trees": "", "rallrec": "rallrec"},
            },
            "own": {
                "title": "Its own reference",
                "note": "",
                "published": "",
                "reference": "item_mean",
                "rows": {"rallrec": "", "recent": "", "item_mean": ""},
            },
        },
        figures={
            "size": {
                "title": "More samples",
                "x": "samples",
                "lines": {
                    "tuned": {"64": "recent", "256": "rallrec"},
                    "plain": {"64": "item_mean", "256": "boosted_trees"},
                },
            },
            "way": {"title": title, "x": title, "lines": {title: {title: "recent", "rerank": "rallrec"}}},
        },
        claims=[
            {"says": title, "better": "rallrec", "than": "item_mean", "by": "auc"},
            {"says": "The mean is better", "better": "item_mean", "than": "rallrec", "by": "auc"},
            {"says": "Lower loss", "better": "rallrec", "than": "item_mean", "by": "log_loss"},
            {"says": "Higher loss", "better": "item_mean", "than": "rallrec", "by": "log_loss"},
            {"says": "Nothing to tell", "better": "rallrec", "than": "boosted_trees", "by": "auc"},
        ],
        paper_dataset="movielens-1m",
    )


_VARIANTS = {
    "first": {"samples": "a" * 32, "item_embeddings": "b" * 32, "predictions": "d" * 32},
    "second": {"samples": "a" * 32, "item_embeddings": "c" * 32, "predictions": "e" * 32},
}
PNG = b"\x89PNG\r\n\x1a\n"
ATTACK = '<script>alert("x")</script>'


def some_ratings(users: int = 30, items: int = 40, days: int = 900) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    pairs = [(user, item) for user in range(users) for item in range(items) if rng.random() < 12 / (item + 8)]
    return frame([(f"u{u}", f"i{i}", float(rng.integers(1, 6)), int(rng.integers(0, days)) * DAY) for u, i in pairs])


def profile_of(
    rows: pl.DataFrame, spec: DatasetSpec | None = None, reasons: Mapping[str, int] | None = None
) -> dict[str, Any]:
    spec = spec or make_spec(protocol=RULES)
    items = rows.select("item_id").unique().with_columns(title=pl.lit("A title"))
    core = in_protocol_order(core_of(rows, items, spec.protocol), spec.protocol, 0)
    refused = [("interactions", reason) for reason, times in (reasons or {}).items() for _ in range(times)]
    rejected = pl.DataFrame(refused, schema={"table": pl.String, "reason": pl.String}, orient="row")
    samples = make_samples(core, spec.protocol, spec.label)
    return profile_dataset(rows, rejected, core, items.join(core, on="item_id", how="semi"), samples, items, spec)


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
