"""Vectors of items that nothing was fitted on, by the fits that are there: their texts go the way of all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.embeddings.reduction import fit_reduction
from rallrec_pipeline.settings import AlignmentSettings, TextEmbeddingSettings

Vectors = NDArray[np.float32]


def fold_text(
    title: Vectors, description: Vectors, known: tuple[Vectors, Vectors], settings: TextEmbeddingSettings, seed: int
) -> Vectors:
    """e_text (n, d) of new items, from the vectors (n, e) of titles and descriptions; `known` are those of the core."""
    parts = (
        [(title, known[0])] if settings.descriptions == "empty" else list(zip((title, description), known, strict=True))
    )
    dimensions = settings.pca_dimensions
    made = [fit_reduction(core, dimensions, settings.whiten, seed).apply(new) for new, core in parts]
    return np.concatenate(made, axis=1)


def fold_aligned(
    text: Vectors, tensors: Mapping[str, NDArray[Any]], known: tuple[Vectors, Vectors], settings: AlignmentSettings
) -> Vectors:
    """e_ssl (n, d_colla) of new items by a fitted projector (`ProjectorResult.tensors`).

    `text` (n, d_text) is theirs; `known` are text and collaborative vectors of the core, which attention looks at.
    """
    inputs = _standardised(text, tensors)
    if settings.kind != "attention":
        hidden = np.maximum(_linear(inputs, tensors, "hidden"), 0) if settings.kind == "mlp" else inputs
        return _linear(hidden, tensors, "output")
    learned = np.linalg.norm(known[1], axis=1) > 0
    keys = unit_rows(_linear(_standardised(known[0][learned], tensors), tensors, "key"))
    scores = unit_rows(_linear(inputs, tensors, "query")) @ keys.T / np.float32(settings.temperature)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(shares @ unit_rows(known[1][learned]), np.float32)


def _standardised(text: Vectors, tensors: Mapping[str, NDArray[Any]]) -> Vectors:
    return np.asarray((text - tensors["input.mean"]) / tensors["input.scale"], np.float32)


def _linear(inputs: Vectors, tensors: Mapping[str, NDArray[Any]], layer: str) -> Vectors:
    return np.asarray(inputs @ tensors[f"{layer}.weight"].T + tensors[f"{layer}.bias"], np.float32)
