"""The table `retrieved_histories`: for each chosen sample its recent, relevant, sequential and reranked history."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.lake.lists import consecutive_lists
from rallrec_pipeline.retrieval.learned import LearnedReranker
from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import Retrieved, in_time_order, most_recent
from rallrec_pipeline.retrieval.rerank import rerank
from rallrec_pipeline.settings import RetrievalSettings


def retrieve_histories(
    samples: pl.DataFrame,
    sequences: UserSequences,
    ranking: Ranking,
    settings: RetrievalSettings,
    alpha: float,
    learned: LearnedReranker | None = None,
) -> pl.DataFrame:
    """All four histories of each row of `samples`; `ranking` says what is relevant, and eq. 8 or `learned` reranks."""
    users = sequences.user_codes(samples["user_id"])
    lengths = samples["history_length"].to_numpy().astype(np.int32)
    targets = sequences.item_codes(samples["item_id"])
    k = settings.history_length
    relevant = ranking(sequences, users, lengths, targets, k)
    recent = most_recent(lengths, k)
    if learned is None:
        reranked = rerank(relevant.positions, recent.positions, alpha, settings.beta, k)
    else:
        reranked = learned.choose(sequences, users, lengths, targets, ranking, k)
    columns: dict[str, NDArray[np.int32]] = {
        "recent": in_time_order(recent.positions),
        "relevant": relevant.positions,
        "sequential": in_time_order(relevant.positions),
        "reranked": reranked,
    }
    item_ids = pl.Series(sequences.item_ids, dtype=pl.String)
    frame = samples.select("sample_id", "user_id", "item_id", "split", "rating", "label")
    for name, positions in columns.items():
        frame = frame.with_columns(_history_columns(name, positions, users, sequences, item_ids))
    return frame.with_columns(_scores(relevant))


def _history_columns(
    name: str, positions: NDArray[np.int32], users: NDArray[np.int32], sequences: UserSequences, item_ids: pl.Series
) -> list[pl.Series]:
    """Item ids and ratings at `positions` (n, k), padding dropped."""
    known = positions >= 0
    where = (sequences.offsets[users][:, None] + positions)[known]
    counts = known.sum(axis=1)
    return [
        consecutive_lists(item_ids.gather(sequences.items[where]).alias(name), counts),
        consecutive_lists(pl.Series(f"{name}_ratings", sequences.ratings[where], dtype=pl.Float32), counts),
    ]


def _scores(relevant: Retrieved) -> pl.Series:
    known = relevant.positions >= 0
    scores = pl.Series("relevant_scores", relevant.scores[known], dtype=pl.Float32)
    return consecutive_lists(scores, known.sum(axis=1))
