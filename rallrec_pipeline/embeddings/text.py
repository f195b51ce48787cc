"""Text embeddings: mean-pooled last hidden states of the LLM over a text's tokens (method, step 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.reduction import reduce_dimensions
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.language_models.protocols import Progress, TextEncoder
from rallrec_pipeline.settings import TextEmbeddingSettings

ENCODER_VERSION = "1"


def embed_texts(
    item_ids: Sequence[str],
    texts: Sequence[str],
    encoder: TextEncoder,
    previous: pl.DataFrame | None,
    model_fingerprint: str,
    run_id: str,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, int]:
    """The embeddings table of `texts` and how many rows were encoded anew.

    Rows of `previous` whose `input_hash` still holds are reused.
    """
    keys = [stable_hash(text, ENCODER_VERSION, model_fingerprint) for text in texts]
    kept = _reusable(previous, keys)
    todo = [i for i, key in enumerate(keys) if key not in kept]
    vectors = encoder.encode([texts[i] for i in todo], progress)
    for i, vector in zip(todo, vectors, strict=True):
        kept[keys[i]] = vector
    matrix = np.stack([kept[key] for key in keys])
    frame = embeddings_frame(item_ids, matrix, keys, ENCODER_VERSION, model_fingerprint, run_id)
    return _with_old_stamps(frame, previous), len(todo)


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
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise DataError(f"{len(bad)} vectors are not finite, first of item {item_ids[bad[0]]!r}")
    return pl.DataFrame({"item_id": list(item_ids)}).with_columns(
        pl.Series("vector", np.ascontiguousarray(vectors, np.float32), dtype=pl.Array(pl.Float32, vectors.shape[1])),
        pl.Series("input_hash", list(input_hashes), dtype=pl.String),
        pl.lit(template_version).alias("template_version"),
        pl.lit(model_fingerprint).alias("model_fingerprint"),
        pl.Series("data_version", [stable_hash(v.tobytes().hex()) for v in vectors], dtype=pl.String),
        pl.lit(run_id).alias("run_id"),
        pl.lit(now()).alias("created_at"),
    )


def vectors_of(table: pl.DataFrame) -> NDArray[np.float32]:
    """The vectors of an embeddings table, shape (n, d), float32."""
    return np.asarray(table["vector"].to_numpy(), dtype=np.float32)


def _with_old_stamps(frame: pl.DataFrame, previous: pl.DataFrame | None) -> pl.DataFrame:
    """A reused vector keeps the run and time that made it."""
    if previous is None:
        return frame
    stamps = ("run_id", "created_at")
    old = previous.select("input_hash", *(pl.col(name).alias(f"old_{name}") for name in stamps)).unique("input_hash")
    joined = frame.join(old, on="input_hash", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce(f"old_{name}", name).alias(name) for name in stamps).select(frame.columns)


def _reusable(previous: pl.DataFrame | None, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    if previous is None:
        return {}
    wanted = set(keys)
    pairs = zip(previous["input_hash"], vectors_of(previous), strict=True)
    return {key: vector for key, vector in pairs if key in wanted}
