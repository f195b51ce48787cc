"""The evaluation report of one dataset: every method on the same test rows, with errors and the papers' figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.common_sense import COMMON_SENSE
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.metrics import METRICS, check_predictions, evaluate
from rallrec_pipeline.evaluation.significance import Difference, Floats, bootstrap_metrics, differences, intervals

MAIN, REFERENCE = "rallrec", "boosted_trees"
Kind = Literal["llm", "baseline"]

PAPER_DATASETS = {"bookcrossing": "BookCrossing", "movielens-1m": "MovieLens-1M", "amazon-movies": "Amazon-Movies"}
_PAPER_TITLES = {
    "deepfm": "DeepFM",
    "xdeepfm": "xDeepFM",
    "dcn": "DCN",
    "autoint": "AutoInt",
    "llama3.1": "Llama-3.1-8B zero-shot",
    "rella": "ReLLa",
    "hybrid_score": "Hybrid-Score",
    "rallrec": "RALLRec",
    "rallrec_plus": "RALLRec+",
}
_PAPER_TABLES = (
    ("rallrec", "rallrec_table_1_main", "table 1"),
    ("rallrec_plus", "rallrec_plus_table_4_main", "table 4"),
)


@dataclass(frozen=True)
class ReportContext:
    """What the report is about. `paper_dataset` is a key of PAPER_DATASETS, or None where no paper is near."""

    dataset: str
    title: str
    profile: str
    seed: int
    n_train: int
    n_train_baselines: int | None = None
    """Training samples of the baselines, which are fitted on all; None where it is not known."""
    paper_dataset: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    """`weights` of eq. 7, `neighbour_auc` of every mixture that was tried, `alpha` and its search."""


def build_report(
    context: ReportContext,
    predictions: Mapping[str, pl.DataFrame],
    seconds: Mapping[str, float],
    titles: Mapping[str, str],
    resamples: int = 1000,
) -> dict[str, Any]:
    """The JSON-able report on test `predictions`: method -> columns `sample_id`, `label`, `p_yes`.

    `n_train` of the context counts the samples that the tuned methods saw. Methods named in COMMON_SENSE are
    baselines, all others LLMs. Values that cannot be computed are null, never NaN.
    Raises DataError when the methods were not scored on the same rows, or AUC is undefined.
    """
    sample_ids, labels, scores = align_predictions(predictions)
    points = {method: evaluate(labels, p).as_array() for method, p in scores.items()}
    samples = bootstrap_metrics(labels, scores, resamples, context.seed)
    methods = {
        method: _method(method, points[method], samples[method], labels.size, seconds.get(method), titles)
        for method in scores
    }
    best_first = sorted(scores, key=lambda m: (m != REFERENCE, -points[m][0]))
    others = [m for m in best_first if m != MAIN] if MAIN in scores else []
    paired = {
        f"{MAIN} - {other}": told_differences(differences(samples[MAIN], samples[other], points[MAIN] - points[other]))
        for other in others
    }
    report = {
        "dataset": context.dataset,
        "dataset_title": context.title,
        "profile": context.profile,
        "seed": context.seed,
        "n_train": context.n_train,
        "n_train_baselines": context.n_train_baselines,
        "n_test": int(sample_ids.size),
        "share_liked": float(labels.mean()),
        "resamples": resamples,
        "methods": methods,
        "paired": paired,
        "paper": paper_figures(context.paper_dataset),
        "retrieval": dict(context.retrieval),
        "provenance": dict(context.provenance),
    }
    return finite(report)


def align_predictions(
    predictions: Mapping[str, pl.DataFrame],
) -> tuple[NDArray[np.int64], NDArray[np.int8], dict[str, Floats]]:
    """Sample ids (n,) ascending, their labels (n,), and P(yes) (n,) by method.

    Raises DataError when a method has other rows, repeated rows or other labels than the first.
    """
    if not predictions:
        raise DataError("there are no predictions to report on: score at least one method first")
    sample_ids = labels = None
    scores: dict[str, Floats] = {}
    for method, frame in predictions.items():
        ordered = frame.select("sample_id", "label", "p_yes").sort("sample_id")
        ids = ordered["sample_id"].to_numpy()
        if ordered["sample_id"].n_unique() < ids.size:
            raise DataError(f"predictions of {method!r} repeat sample ids: score the method again")
        if sample_ids is None or labels is None:
            sample_ids, labels = ids, ordered["label"].to_numpy()
        elif not (np.array_equal(ids, sample_ids) and np.array_equal(ordered["label"].to_numpy(), labels)):
            first = next(iter(predictions))
            raise DataError(
                f"{method!r} ({ids.size} rows) and {first!r} ({sample_ids.size} rows) were not scored on the same"
                " labelled rows: score both again with the same settings"
            )
        scores[method] = check_predictions(labels, ordered["p_yes"].to_numpy())[1]
    assert sample_ids is not None and labels is not None
    return sample_ids, labels.astype(np.int8), scores


def paper_figures(paper_dataset: str | None) -> dict[str, Any]:
    """Published figures for `paper_dataset`: `rows` of RALLRec's table 1 and RALLRec+'s table 4; empty for None.

    Raises DataError for a name that is in no table.
    """
    if paper_dataset is None:
        return {"dataset": None, "title": None, "rows": []}
    if paper_dataset not in PAPER_DATASETS:
        raise DataError(f"the papers have no dataset {paper_dataset!r}: choose one of {', '.join(PAPER_DATASETS)}")
    tables = _paper_tables()
    rows = [
        {"paper": paper, "source": tables["sources"][paper], "table": number, "method": method}
        | {"title": _PAPER_TITLES[method]}
        | dict(zip(METRICS, values[paper_dataset], strict=True))
        for paper, table, number in _PAPER_TABLES
        for method, values in tables[table].items()
    ]
    return {"dataset": paper_dataset, "title": PAPER_DATASETS[paper_dataset], "rows": rows}


@cache
def _paper_tables() -> dict[str, Any]:
    text = Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


def _method(
    method: str, point: Floats, samples: Floats, n: int, seconds: float | None, titles: Mapping[str, str]
) -> dict[str, Any]:
    kind: Kind = "baseline" if method in COMMON_SENSE else "llm"
    entry: dict[str, Any] = dict(zip(METRICS, point.tolist(), strict=True)) | {"n": n, "seconds": seconds}
    for name, interval in intervals(samples).items():
        entry |= {f"{name}_se": interval.se, f"{name}_ci": [interval.low, interval.high]}
    return entry | {"kind": kind, "title": titles.get(method) or COMMON_SENSE.get(method, method)}


def told_differences(found: Mapping[str, Difference]) -> dict[str, Any]:
    """Differences by metric, as plain values."""
    return {
        name: {"difference": d.difference, "se": d.se, "ci": [d.low, d.high], "p_value": d.p_value}
        for name, d in found.items()
    }


def finite(report: Mapping[str, Any]) -> dict[str, Any]:
    """`report` as plain JSON values; every NaN and infinity becomes None, for JSON has neither."""
    plain: dict[str, Any] = json.loads(json.dumps(_finite(report), allow_nan=False, default=str))
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
