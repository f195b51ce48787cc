"""Vectors as columns and as bytes: float32, little-endian, and the version that their bytes have."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.lake.provenance import stable_hash


def vectors_of(table: pl.DataFrame) -> NDArray[np.float32]:
    """The vectors of an embeddings table, shape (n, d), float32."""
    return np.ascontiguousarray(table["vector"].to_numpy(), dtype=np.float32)


def vectors_from_bytes(rows: pl.Series) -> NDArray[np.float32]:
    """Binary vectors of one width as an array, shape (n, d), float32."""
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1).astype(np.float32)


def vectors_to_bytes(vectors: NDArray[np.float32]) -> list[bytes]:
    """Rows of an array of shape (n, d) as binary vectors."""
    return [vector.tobytes() for vector in vectors.astype("<f4")]


def vector_version(row: bytes) -> str:
    """Data version of one vector, from its float32 bytes."""
    return stable_hash(row.hex())
