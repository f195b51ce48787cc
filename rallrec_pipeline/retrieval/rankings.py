"""Ways to rank a history by several kinds of vectors: mixed before retrieval, or after it (the papers' baselines)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import mix, unit_rows
from rallrec_pipeline.retrieval.relevance import NO_ITEM, Asked, Retrieved, most_relevant, most_similar

if TYPE_CHECKING:
    from rallrec_pipeline.datasets.sequences import UserSequences
    from rallrec_pipeline.settings import RetrieverSettings

Vectors = NDArray[np.float32]
Codes = NDArray[np.int32]


Ranking = Callable[["UserSequences", Asked, int], Retrieved]
"""Chooses the k history items most relevant to each target."""


def ranking_of(retriever: RetrieverSettings, parts: Mapping[str, Vectors]) -> Ranking:
    """By the mixture of eq. 7 with the retriever's own weights, or the variant's, or as the papers' baselines do.

    `parts` are the vectors (n_items, d_i) of the retriever's parts by kind; without parts those of `item`.
    """
    if not retriever.parts:
        return by_vectors(parts["item"])
    if retriever.combine == "quota":
        return by_quota(*parts.values())
    if retriever.combine == "softmax":
        return by_softmax([(vectors, retriever.parts[kind]) for kind, vectors in parts.items()])  # type: ignore[index]
    return by_vectors(mix(parts, retriever.parts))  # type: ignore[arg-type]


def by_vectors(vectors: Vectors) -> Ranking:
    """Mix, then retrieve: by the dot product of one vector (n_items, d) an item (eq. 7)."""

    def rank(sequences: UserSequences, samples: Asked, k: int) -> Retrieved:
        return most_relevant(sequences, samples, vectors, k)

    return rank


def by_softmax(parts: Sequence[tuple[Vectors, float]]) -> Ranking:
    """Retrieve, then mix: cosines of each part, made shares of the user's history by a softmax, are added up.

    `parts` are (vectors (n_items, d_i), weight).
    """
    weighted = [(unit_rows(vectors), np.float32(weight)) for vectors, weight in parts]

    def similarity(asked: Codes, history: Codes, lengths: Codes) -> NDArray[np.float32]:
        unseen = np.arange(len(history)) >= lengths[:, None]
        total = np.zeros((len(asked), len(history)), np.float32)
        for vectors, weight in weighted:
            shares = np.exp(np.where(unseen, -np.inf, vectors[asked] @ vectors[history].T))
            total += weight * shares / shares.sum(axis=1, keepdims=True)
        return total

    def rank(sequences: UserSequences, samples: Asked, k: int) -> Retrieved:
        return most_similar(sequences, samples, similarity, k)

    return rank


def by_quota(first: Vectors, second: Vectors) -> Ranking:
    """Hybrid-Score: (k + 1) // 2 items by the `first` vectors, the others by the `second`, no item twice.

    Both are (n_items, d_i). Scores are cosines of the part that chose the item.
    """
    kinds = unit_rows(first), unit_rows(second)

    def rank(sequences: UserSequences, samples: Asked, k: int) -> Retrieved:
        leading, rest = (most_relevant(sequences, samples, vectors, k) for vectors in kinds)
        return _filled_up(leading, rest, (k + 1) // 2)

    return rank


def _filled_up(leading: Retrieved, rest: Retrieved, quota: int) -> Retrieved:
    """The first `quota` of `leading` (n, k), then the best of `rest` (n, k) that are not among them."""
    k = leading.positions.shape[1]
    ahead = leading.positions[:, :quota]
    known = (rest.positions[:, :, None] == ahead[:, None, :]).any(axis=2) | (rest.positions == NO_ITEM)
    order = np.argsort(known, axis=1, kind="stable")[:, : k - quota]  # those that are new first, in their order
    new = ~np.take_along_axis(known, order, axis=1)
    positions = np.where(new, np.take_along_axis(rest.positions, order, axis=1), NO_ITEM)
    scores = np.where(new, np.take_along_axis(rest.scores, order, axis=1), np.float32(0))
    return Retrieved(
        np.concatenate([ahead, positions], axis=1).astype(np.int32),
        np.concatenate([leading.scores[:, :quota], scores], axis=1).astype(np.float32),
    )
