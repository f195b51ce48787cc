"""Vectors of one kind that an encoder made: shards of the current ones, and a cache of all other finished ones.

Order of a commit, so that a crash in the middle of it loses no finished row: what the encoder finishes goes to the
cache; vectors that are about to be replaced go to the cache; the shards are rewritten, one by one; at last the parts of
the cache that hold nothing but current vectors are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.lake.llm_cache import LLMCache
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.shards import shard_files
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
        asked = set(keys)
        current = self._current(asked.__contains__)
        missing = list(asked - set(current["key"]))
        cached = self.cache.find(missing) if missing else current.clear()
        return pl.concat([current, cached.select(*CACHED)])

    def known(self, keys: Sequence[str]) -> set[str]:
        """Which of `keys` have a vector; reads no vector."""
        asked, current = set(keys), set[str]()
        for shard in self._shards():
            current |= asked.intersection(_read(shard, ["input_hash"])["input_hash"])
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
        kept, path = set(frame["input_hash"]), self.table.file(self.lake, self.dataset)
        # One file of a lake from before there were shards goes as a whole, before the first shard is written.
        whole = path.is_file()
        self.cache.add(self._current(lambda key: whole or key not in kept))
        write_table(frame, self.table, self.lake, self.dataset)
        self.cache.drop_parts_within(kept)
        return path

    def _shards(self) -> list[Path]:
        return shard_files(self.table.file(self.lake, self.dataset))

    def _current(self, wanted: Callable[[str], bool]) -> pl.DataFrame:
        """Rows of the shards whose key is `wanted`, as rows of `CACHED`; a row whose hash is wrong is not finished.

        Shard by shard, since after a commit that was broken off they may be of two models, so of two widths.
        """
        parts = [pl.DataFrame(schema=CACHED)]
        for shard in self._shards():
            rows = _read_wanted(shard, wanted)
            if rows.height:
                parts.append(_as_cached(rows))
        return pl.concat(parts).unique("key", keep="first", maintain_order=True)


def _read_wanted(shard: Path, wanted: Callable[[str], bool]) -> pl.DataFrame:
    """The wanted rows of a shard; its vectors are only read if there are any."""
    mask = pl.Series(map(wanted, _read(shard, ["input_hash"])["input_hash"]), dtype=pl.Boolean)
    columns = ["input_hash", "vector", "data_version", "run_id", "created_at"]
    rows = _read(shard, columns if mask.any() else ["input_hash"])
    return rows.filter(mask) if rows.height == len(mask) else rows.clear()


def _read(shard: Path, columns: list[str]) -> pl.DataFrame:
    """A shard; a damaged one has no rows, so that its vectors are made again."""
    try:
        return pl.read_parquet(shard, columns=columns)
    except (pl.exceptions.PolarsError, OSError):
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def _as_cached(rows: pl.DataFrame) -> pl.DataFrame:
    vectors = [vector.tobytes() for vector in vectors_of(rows).astype("<f4")]
    sound = [vector_version(v) == version for v, version in zip(vectors, rows["data_version"], strict=True)]
    cached = rows.with_columns(pl.col("input_hash").alias("key"), pl.Series("vector", vectors, dtype=pl.Binary))
    return cached.select(*CACHED).filter(pl.Series(sound, dtype=pl.Boolean))


def vectors_of(table: pl.DataFrame) -> NDArray[np.float32]:
    """The vectors of an embeddings table, shape (n, d), float32."""
    return np.ascontiguousarray(table["vector"].to_numpy(), dtype=np.float32)


def vectors_from_bytes(rows: pl.Series) -> NDArray[np.float32]:
    """Binary vectors of one width as an array, shape (n, d), float32."""
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1).astype(np.float32)


def vector_version(row: bytes) -> str:
    """Data version of one vector, from its float32 bytes."""
    return stable_hash(row.hex())
