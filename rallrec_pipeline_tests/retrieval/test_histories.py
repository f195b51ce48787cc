"""The table of retrieved histories against a plain loop."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import RetrievalSettings

ALPHA = 0.7  # no two scores of eq. 8 are equal with it


def by_equation_8(relevant: list[str], recent: list[str], alpha: float) -> list[str]:
    """Both channels, best first, merged by channel score over rank; each item once, with its larger score."""
    scores: dict[str, float] = {}
    for share, channel in ((alpha, relevant), (1 - alpha, recent)):
        for rank, item in enumerate(channel, 1):
            scores[item] = max(scores.get(item, 0.0), share / rank)
    return sorted(scores, key=lambda item: -scores[item])


def test_histories_are_the_users_own_and_earlier() -> None:
    rng = np.random.default_rng(3)
    items = [str(i) for i in range(12)]
    rows = [
        (str(u), str(i), float(rng.integers(1, 6)), t) for u in range(4) for t, i in enumerate(rng.permutation(12)[:9])
    ]
    core = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").sort(
        "timestamp", "user_id"
    )
    sequences = UserSequences.from_interactions(core, items)
    vectors = rng.normal(size=(12, 5)).astype(np.float32)
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    samples = core.with_columns(position, split=pl.lit("test"), label=pl.lit(1, pl.Int8)).with_row_index("sample_id")
    retriever = Retriever(by_vectors(vectors), RetrievalSettings(history_length=3), ALPHA)
    made = retrieve_histories(samples, sequences, retriever)
    for sample, row in zip(samples.iter_rows(named=True), made.iter_rows(named=True), strict=True):
        earlier = core.filter(pl.col("user_id") == sample["user_id"]).head(sample["history_length"])
        history, ratings = earlier["item_id"].to_list(), dict(earlier.select("item_id", "rating").iter_rows())
        similarity = {i: float(vectors[int(i)] @ vectors[int(sample["item_id"])]) for i in history}
        best = sorted(history, key=lambda i: -similarity[i])[:3]
        assert row["recent"] == history[-3:] and row["relevant"] == best
        assert row["sequential"] == [i for i in history if i in best]
        assert row["reranked"] == by_equation_8(best, history[:-4:-1], ALPHA)[:3]
        for name in ("recent", "relevant", "sequential", "reranked"):
            assert row[f"{name}_ratings"] == [ratings[i] for i in row[name]]
        np.testing.assert_allclose(row["relevant_scores"], [similarity[i] for i in best], rtol=1e-5)
