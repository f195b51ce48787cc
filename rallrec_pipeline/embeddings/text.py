"""Text embeddings: mean-pooled last hidden states of the LLM over a text's tokens (method, step 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.reduction import reduce_dimensions
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.vectors import vector_version, vectors_from_bytes, vectors_to_bytes
from rallrec_pipeline.language_models.protocols import Progress, TextEncoder
from rallrec_pipeline.language_models.rows import complete_rows
from rallrec_pipeline.settings import TextEmbeddingSettings

ENCODER_VERSION = "1"  # raise it when the computing changes its output by more than rounding
CHUNK = 512  # texts: what a killed run loses at most


@dataclass(frozen=True)
class EncodedTexts:
    """The embeddings table, and how many texts the encoder had to read for it."""

    table: pl.DataFrame
    computed: int


def embed_texts(
    item_ids: Sequence[str],
    texts: Sequence[str],
    load_encoder: Callable[[], TextEncoder],
    memo: Memo,
    model_fingerprint: str,
    run_id: str,
    progress: Progress | None = None,
) -> EncodedTexts:
    """Vectors of `texts`; only those that `memo` lacks are encoded, each text once.

    The encoder is loaded only when there is something to encode.
    """
    keys = text_keys(texts, model_fingerprint)
    done = complete_rows(keys, texts, memo, load_encoder, _encode, len, CHUNK, run_id, progress)
    vectors = vectors_from_bytes(done.rows["vector"])
    frame = embeddings_frame(item_ids, vectors, keys, ENCODER_VERSION, model_fingerprint, run_id)
    # A reused vector keeps the run and time that made it.
    return EncodedTexts(frame.with_columns(done.rows["run_id"], done.rows["created_at"]), done.made.height)


def text_keys(texts: Sequence[str], model_fingerprint: str) -> list[str]:
    """Provenance of each vector: text and model."""
    return [stable_hash(text, ENCODER_VERSION, model_fingerprint) for text in texts]


def _encode(encoder: TextEncoder, batch: Mapping[str, str], progress: Progress | None) -> dict[str, list[Any]]:
    vectors = vectors_to_bytes(encoder.encode(list(batch.values()), progress))
    return {"vector": vectors, "data_version": [vector_version(vector) for vector in vectors]}


def text_vectors(
    title: NDArray[np.float32], description: NDArray[np.float32], settings: TextEmbeddingSettings, seed: int
) -> NDArray[np.float32]:
    """e_text = [e_title || e_desc] (eq. 3), each reduced by PCA; shape (n, 2 x dimensions), or e_title's alone."""
    if settings.descriptions == "empty":
        return reduce_dimensions(title, settings.pca_dimensions, settings.whiten, seed)
    if settings.descriptions == "shuffled":
        description = description[np.random.default_rng(seed).permutation(len(description))]
    parts = [reduce_dimensions(part, settings.pca_dimensions, settings.whiten, seed) for part in (title, description)]
    return np.concatenate(parts, axis=1)


def later_text_vectors(
    core: tuple[NDArray[np.float32], NDArray[np.float32]],
    later: tuple[NDArray[np.float32], NDArray[np.float32]],
    settings: TextEmbeddingSettings,
    seed: int,
) -> NDArray[np.float32]:
    """e_text of items that came `later`, in the components of the `core`: each is title and description vectors.

    No component is fitted to them. Shuffled descriptions stay where they are, since there is none to take another's.
    """
    asked = settings.pca_dimensions, settings.whiten, seed
    parts = [reduce_dimensions(fitted, *asked, others) for fitted, others in zip(core, later, strict=True)]
    return parts[0] if settings.descriptions == "empty" else np.concatenate(parts, axis=1)


def embeddings_frame(
    item_ids: Sequence[str],
    vectors: NDArray[np.float32],
    input_hashes: Sequence[str],
    template_version: str,
    model_fingerprint: str,
    run_id: str,
) -> pl.DataFrame:
    """An embeddings table (`lake/tables.py`); vectors of shape (n, d), float32.

    Raises DataError when a vector is not finite.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} vectors are not finite, first of item {item_ids[bad[0]]!r}")
    return pl.DataFrame({"item_id": list(item_ids)}).with_columns(
        pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])),
        pl.Series("input_hash", list(input_hashes), dtype=pl.String),
        pl.lit(template_version).alias("template_version"),
        pl.lit(model_fingerprint).alias("model_fingerprint"),
        pl.Series("data_version", [vector_version(row.tobytes()) for row in vectors], dtype=pl.String),
        pl.lit(run_id).alias("run_id"),
        pl.lit(now()).alias("created_at"),
    )
