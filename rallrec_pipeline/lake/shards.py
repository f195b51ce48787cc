"""A wide table as a folder of Parquet shards by a hash of the id: a small change rewrites few bytes.

A row belongs to the same shard in every run as long as the number of shards holds, rows are in order of their id, and
a shard whose rows have not changed is left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.files import atomic_path

ROWS_PER_SHARD = 512  # 8 MB of 4,096-wide vectors
SHARD = "shard-*.parquet"
LEFTOVER = ".shard-*"  # of a run that was killed while it wrote


@dataclass(frozen=True)
class ShardsWritten:
    """How many shards there are, how many had to be rewritten, and the bytes of those."""

    total: int
    rewritten: int
    bytes: int


def write_shards(frame: pl.DataFrame, folder: Path, key: str, wide: str, previous: Path | None = None) -> ShardsWritten:
    """Make `folder` hold exactly the rows of `frame`, spread by `key` (text); each shard is replaced atomically.

    A shard that the folder `previous` of an earlier result has alike is shared with it, not written. The column `wide`
    is only read where all others are equal.
    """
    count = _shard_count(frame.height)
    split = frame.with_columns(pl.Series("_shard", [shard_of(k, count) for k in frame[key]], dtype=pl.Int32))
    parts = {int(n[0]): rows.drop("_shard").sort(key) for n, rows in split.group_by("_shard")}
    empty = frame.clear()
    if folder.is_file():  # of a lake from before there were shards
        folder.unlink()
    rewritten = size = 0
    for number in range(count):
        path, rows = folder / _name(number, count), parts.get(number, empty)
        earlier = previous / path.name if previous else path
        if _holds(path, rows, wide):
            continue
        with atomic_path(path) as temporary:
            if earlier != path and _holds(earlier, rows, wide):
                _share(earlier, temporary)
                continue
            rows.write_parquet(temporary, compression="zstd")
        rewritten, size = rewritten + 1, size + path.stat().st_size
    kept = {_name(number, count) for number in range(count)}
    for path in [*folder.glob(SHARD), *folder.glob(LEFTOVER)]:
        if path.name not in kept:
            path.unlink()
    return ShardsWritten(count, rewritten, size)


def shard_of(key: str, count: int) -> int:
    """Number of the shard of a row, the same in every process."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8]) % count


def shard_files(folder: Path) -> list[Path]:
    """The shards of a table that is there, or its one file in a lake from before there were shards."""
    return [folder] if folder.is_file() else sorted(folder.glob(SHARD))


def _shard_count(rows: int) -> int:
    """A power of two, so that a table that doubles splits each shard in two."""
    return 1 << max(0, (rows - 1) // ROWS_PER_SHARD).bit_length()


def _name(number: int, count: int) -> str:
    return f"shard-{number:05d}-of-{count:05d}.parquet"


def _share(source: Path, target: Path) -> None:
    """One file under two names; a copy where the file system cannot do that. Shards are replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _holds(path: Path, rows: pl.DataFrame, wide: str) -> bool:
    """Whether the shard is there and holds exactly these rows."""
    if not path.exists():
        return False
    try:
        if dict(pl.scan_parquet(path, glob=False).collect_schema()) != dict(rows.schema):
            return False
        narrow = [name for name in rows.columns if name != wide]
        parts = (narrow, [wide])
        return all(pl.read_parquet(path, columns=part, glob=False).equals(rows.select(part)) for part in parts)
    except (pl.exceptions.PolarsError, OSError):
        return False  # a damaged shard is written again
