"""Vectors of one kind that an encoder made: shards of the current ones, and a cache of all other finished ones.

Order of a commit, so that a crash in the middle of it loses no finished row: what the encoder finishes goes to the
cache; vectors that are about to be replaced go to the cache; the shards are rewritten, one by one; at last the parts of
the cache that hold nothing but current vectors are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.lake.llm_cache import LLMCache
from rallrec_pipeline.lake.parquet import read_table, scan_table, write_table
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.tables import embeddings_table

CACHED = {
    "key": pl.String,
    "vector": pl.Binary,  # float32, little-endian: the cache need not know how wide a model is
    "data_version": pl.String,
    "run_id": pl.String,
    "created_at": pl.String,
}


class VectorStore:
    """Encoded vectors of `kind` (`title`, `description`) of one dataset, found by `input_hash`."""

    def __init__(self, lake: Path, dataset: str, kind: str) -> None:
        self.lake, self.dataset = lake, dataset
        self.table = embeddings_table(kind)
        self.cache = LLMCache(lake, f"vectors/{dataset}/{kind}", CACHED)

    def find(self, keys: Sequence[str]) -> pl.DataFrame:
        """Finished rows of `CACHED` among `keys`, one per key: current ones first, then cached ones."""
        current = self._current().filter(pl.col("key").is_in(list(set(keys))))
        missing = list(set(keys) - set(current["key"]))
        cached = self.cache.find(missing) if missing else current.clear()
        return pl.concat([current, cached.select(*CACHED)])

    def known(self, keys: Sequence[str]) -> set[str]:
        """Which of `keys` have a vector; reads no vector."""
        current = set[str]()
        if self.table.exists(self.lake, self.dataset):
            found = scan_table(self.table, self.lake, self.dataset).select("input_hash").collect()
            current = set(found["input_hash"]) & set(keys)
        return current | self.cache.known([key for key in keys if key not in current])

    def add(self, keys: Sequence[str], vectors: NDArray[np.float32], run_id: str) -> None:
        """Store what the encoder has finished: `vectors` (n, d) float32."""
        rows = [vector.astype("<f4").tobytes() for vector in vectors]
        self.cache.add(
            pl.DataFrame(
                {
                    "key": list(keys),
                    "vector": rows,
                    "data_version": [vector_version(row) for row in rows],
                    "run_id": run_id,
                    "created_at": now(),
                },
                schema=CACHED,
            )
        )

    def commit(self, frame: pl.DataFrame) -> Path:
        """Make `frame` (an embeddings table) the current one; what it replaces stays in the cache."""
        current, kept = self._current(), set(frame["input_hash"])
        self.cache.add(current.filter(~pl.col("key").is_in(list(kept))))
        path = write_table(frame, self.table, self.lake, self.dataset)
        self.cache.drop_parts_within(kept)
        return path

    def _current(self) -> pl.DataFrame:
        if not self.table.exists(self.lake, self.dataset):
            return pl.DataFrame(schema=CACHED)
        table = read_table(self.table, self.lake, self.dataset).unique("input_hash", keep="first", maintain_order=True)
        return table.select(
            pl.col("input_hash").alias("key"),
            pl.Series("vector", [v.tobytes() for v in vectors_of(table).astype("<f4")], dtype=pl.Binary),
            "data_version",
            "run_id",
            "created_at",
        )


def vectors_of(table: pl.DataFrame) -> NDArray[np.float32]:
    """The vectors of an embeddings table, shape (n, d), float32."""
    return np.ascontiguousarray(table["vector"].to_numpy(), dtype=np.float32)


def vectors_from_bytes(rows: pl.Series) -> NDArray[np.float32]:
    """Binary vectors of one width as an array, shape (n, d), float32."""
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1).astype(np.float32)


def vector_version(row: bytes) -> str:
    """Data version of one vector, from its float32 bytes."""
    return stable_hash(row.hex())
