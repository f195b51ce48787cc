"""What must hold of descriptions, item vectors and the index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.order import exact_times
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.pipeline.checks.verdict import EXAMPLES, Verdict
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.embeddings import read_vectors
from rallrec_pipeline.pipeline.stages.retrieval import index_file
from rallrec_pipeline.retrieval.index import (
    MIN_RECALL,
    RECALL_AT,
    max_disagreement_with_brute_force,
    read_index,
    recall,
    sampled_rows,
)
from rallrec_pipeline.retrieval.inverted_lists import has_lists
from rallrec_pipeline.text import clean_text

INDEX_TOLERANCE = 1e-4


def every_item_described(run: StageRun) -> Verdict:
    described = run.read(tables.ITEM_DESCRIPTIONS)
    words = described["description"].str.split(" ").list.len()
    items = run.read(tables.CORE_ITEMS)
    lacking = items.join(described, on="item_id", how="anti")["item_id"]
    missing = lacking.len()
    empty = int((described["description"].str.strip_chars() == "").sum())
    written = described.filter(pl.col("status") != "template")["description"].str.split(" ").list.len()
    longest = int(written.max() or 0)  # type: ignore[arg-type]
    limit = run.settings.descriptions.max_words
    share = described.filter(pl.col("status") == "template").height / max(1, described.height)
    passed = missing == 0 and empty == 0 and longest <= limit
    figures = {"missing": missing, "longest": longest, "template_share": share, "words": words.mean()}
    return Verdict(passed, figures, [f"no text of item {clean_text(item)}" for item in lacking.head(EXAMPLES)])


def finite_vectors(kind: str) -> Callable[[StageRun], Verdict]:
    """Every kept item has one finite vector of one size."""

    def judge(run: StageRun) -> Verdict:
        table, items = run.read(tables.embeddings_table(kind)), run.read(tables.CORE_ITEMS)
        vectors = vectors_of(table)
        same_items = sorted(table["item_id"]) == sorted(items["item_id"])
        zero = int((np.abs(vectors).max(axis=1) == 0).sum()) if vectors.size else 0
        figures = {"rows": len(vectors), "dimensions": int(vectors.shape[1]), "zero_vectors": zero}
        return Verdict(same_items and bool(np.isfinite(vectors).all()) and len(vectors) > 0, figures)

    return judge


def fitted_on_training_only(run: StageRun) -> Verdict:
    """The interactions that LightGCN was given hold no held-out one and nothing later than the first of them.

    Leave-last-out: nothing of a user that is later than that user's own held-out targets. What is later than those of
    other users is counted: this split cannot do without it.
    Where the settings ask for the published leak, it is counted and let pass: it is what a study is about.
    """
    fitted, samples = run.read(tables.FITTED_INTERACTIONS), run.read(tables.SAMPLES)
    held_out = samples.filter(pl.col("split") != "train")
    leaked = fitted.join(held_out, on=["user_id", "item_id"], how="semi").height
    figures = {"fitted": fitted.height, "held_out": held_out.height, "leaked": leaked}
    if run.spec.protocol.split == "last":
        late, of_others = _later_than_held_out(run, fitted, held_out)
        figures["later_than_a_held_out_one_of_another_user"] = of_others
    else:
        first = held_out["timestamp"].min()
        late = 0 if first is None else fitted.filter(pl.col("timestamp") > first).height
    figures["too_late"] = late
    clean, asked_for = leaked == 0 and late == 0, run.settings.collaborative.fit_on != "training"
    return Verdict(fitted.height > 0 and (clean or asked_for), figures | {"leak_asked_for": asked_for})


def _later_than_held_out(run: StageRun, fitted: pl.DataFrame, held_out: pl.DataFrame) -> tuple[int, int]:
    """Fitted ratings that are later than a held-out one of their own user, and those later than any other's alone.

    Times are those of the raw ratings, as the core of this split has none.
    """
    pair, rated = ["user_id", "item_id"], run.read(tables.INTERACTIONS)
    times = rated.select(*pair, exact_times(rated).alias("time"))
    targets, seen = held_out.select(pair).join(times, on=pair), fitted.select(pair).join(times, on=pair)
    own = targets.group_by("user_id").agg(pl.col("time").min().alias("own"))
    marked = seen.join(own, on="user_id", how="left").with_columns(
        (pl.col("time") > pl.col("own")).fill_null(False).alias("late")
    )
    late = int(marked["late"].sum())
    return late, marked.filter(pl.col("time") > targets["time"].min()).height - late


def index_equals_brute_force(run: StageRun) -> Verdict:
    """A flat index gives the best inner products; an approximate one finds MIN_RECALL of the nearest items."""
    index, item_ids = read_index(index_file(run.folder("item_index"), run.dataset))
    vectors = read_vectors(run, "item")
    rows = sampled_rows(len(vectors), run.seeds.fits)
    same_items = item_ids == run.read(tables.CORE_ITEMS)["item_id"].to_list()
    figures: dict[str, Any] = {"same_items": same_items, "queries": len(rows)}
    if has_lists(index):
        found = recall(index, vectors, rows)
        figures |= {"kind": "ivf", f"recall_at_{RECALL_AT}": found, "bound": MIN_RECALL}
        figures |= {"lists": index.nlist, "probes": index.nprobe}
        return Verdict(same_items and found >= MIN_RECALL, figures)
    worst = max_disagreement_with_brute_force(index, vectors, vectors[rows], RECALL_AT)
    return Verdict(same_items and worst <= INDEX_TOLERANCE, figures | {"kind": "flat", "largest_difference": worst})
