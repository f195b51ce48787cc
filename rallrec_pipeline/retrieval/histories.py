"""The table `retrieved_histories`: for each chosen sample its recent, relevant, sequential and reranked history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.lake.lists import consecutive_lists
from rallrec_pipeline.retrieval.learned import LearnedReranker
from rallrec_pipeline.retrieval.rankings import Ranking
from rallrec_pipeline.retrieval.relevance import Asked, Retrieved, in_time_order, most_recent
from rallrec_pipeline.retrieval.rerank import rerank
from rallrec_pipeline.settings import RetrievalSettings


@dataclass(frozen=True)
class Retriever:
    """How a history is cut to K lines for a target: `ranking`, then eq. 8 with `alpha`, or what was learned."""

    ranking: Ranking
    settings: RetrievalSettings
    alpha: float
    learned: LearnedReranker | None = None

    def channels(self, sequences: UserSequences, asked: Asked) -> tuple[Retrieved, Retrieved]:
        """The K most relevant lines and the K most recent ones."""
        k = self.settings.history_length
        return self.ranking(sequences, asked, k), most_recent(asked.history_lengths, k)

    def reranked(
        self, sequences: UserSequences, asked: Asked, channels: tuple[Retrieved, Retrieved] | None = None
    ) -> NDArray[np.int32]:
        """Positions (n, K) of the chosen lines, the best first, -1 padded; `channels` where they are known already."""
        k = self.settings.history_length
        if self.learned is not None:
            return self.learned.choose(sequences, asked, self.ranking, k)
        relevant, recent = channels or self.channels(sequences, asked)
        return rerank(relevant.positions, recent.positions, self.alpha, self.settings.beta, k)


def retrieve_histories(samples: pl.DataFrame, sequences: UserSequences, retriever: Retriever) -> pl.DataFrame:
    """All four histories of each row of `samples`."""
    users = sequences.user_codes(samples["user_id"])
    lengths = samples["history_length"].to_numpy().astype(np.int32)
    asked = Asked(users, lengths, sequences.item_codes(samples["item_id"]))
    relevant, recent = retriever.channels(sequences, asked)
    columns: dict[str, NDArray[np.int32]] = {
        "recent": in_time_order(recent.positions),
        "relevant": relevant.positions,
        "sequential": in_time_order(relevant.positions),
        "reranked": retriever.reranked(sequences, asked, (relevant, recent)),
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
