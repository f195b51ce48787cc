"""Text embeddings: mean-pooled last hidden states of the LLM over a text's tokens (method, step 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.reduction import reduce_dimensions
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.vectors import VectorStore, vector_version, vectors_from_bytes
from rallrec_pipeline.language_models.chunks import calls_at_once, in_chunks
from rallrec_pipeline.language_models.protocols import Progress, TextEncoder
from rallrec_pipeline.settings import TextEmbeddingSettings

ENCODER_VERSION = "1"  # raise it when the computing changes its output by more than rounding
FLUSH_EVERY = 512  # texts: what a killed run loses at most


@dataclass(frozen=True)
class EncodedTexts:
    """The embeddings table, and how many texts the encoder had to read for it."""

    table: pl.DataFrame
    computed: int


def embed_texts(
    item_ids: Sequence[str],
    texts: Sequence[str],
    load_encoder: Callable[[], TextEncoder],
    store: VectorStore,
    model_fingerprint: str,
    run_id: str,
    progress: Progress | None = None,
) -> EncodedTexts:
    """Vectors of `texts`; only those that `store` lacks are encoded, each text once, and stored every few hundred.

    The encoder is loaded only when there is something to encode.
    """
    keys = text_keys(texts, model_fingerprint)
    missing = _missing(keys, texts, store)
    if missing:
        _encode_all(missing, load_encoder(), store, run_id, progress)
    found = store.find(keys)
    row_of = {key: row for row, key in enumerate(found["key"])}
    rows = found[[row_of[key] for key in keys]]
    frame = embeddings_frame(
        item_ids, vectors_from_bytes(rows["vector"]), keys, ENCODER_VERSION, model_fingerprint, run_id
    )
    # A reused vector keeps the run and time that made it.
    return EncodedTexts(frame.with_columns(rows["run_id"], rows["created_at"]), len(missing))


def text_keys(texts: Sequence[str], model_fingerprint: str) -> list[str]:
    """Provenance of each vector: text and model."""
    return [stable_hash(text, ENCODER_VERSION, model_fingerprint) for text in texts]


def _missing(keys: Sequence[str], texts: Sequence[str], store: VectorStore) -> list[tuple[str, str]]:
    """(key, text) of what was never encoded, shortest first: a resumed run sees the end of the same list."""
    known = store.known(keys)
    distinct = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    return sorted(distinct.items(), key=lambda pair: (len(pair[1]), pair[0]))


def _encode_all(
    missing: Sequence[tuple[str, str]],
    encoder: TextEncoder,
    store: VectorStore,
    run_id: str,
    progress: Progress | None,
) -> None:
    def encode(
        chunk: Sequence[tuple[str, str]], part: Progress | None
    ) -> tuple[Sequence[tuple[str, str]], NDArray[np.float32]]:
        return chunk, encoder.encode([text for _, text in chunk], part)

    for chunk, vectors in in_chunks(encode, missing, FLUSH_EVERY, calls_at_once(encoder), progress):
        store.add([key for key, _ in chunk], vectors, run_id)


def text_vectors(
    title: NDArray[np.float32], description: NDArray[np.float32], settings: TextEmbeddingSettings, seed: int
) -> NDArray[np.float32]:
    """e_text = [e_title || e_desc] (eq. 3), each reduced by PCA; shape (n, 2 x dimensions)."""
    parts = [reduce_dimensions(part, settings.pca_dimensions, settings.whiten, seed) for part in (title, description)]
    return np.concatenate(parts, axis=1)


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
