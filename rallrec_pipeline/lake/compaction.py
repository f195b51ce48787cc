"""A cache of LLM results made smaller: rows that nobody needs go, many small parts become few.

New parts are written and fsynced before old ones are deleted. A crash between the two leaves rows twice, which readers
and the next compaction pass over; it never leaves one out. Nobody may add rows meanwhile: hold the lock of the LLM.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.llm_cache import LLMCache

SMALL = 4 << 20  # bytes of a part that is worth merging with another
WHOLE = 64 << 20  # bytes in memory at which a new part is written

Keep = Callable[[pl.DataFrame], pl.Series]
"""Which rows stay, by their columns `key` and `created_at`: booleans, one per row."""


@dataclass(frozen=True)
class Compacted:
    """What compaction took away: rows, files and bytes on disk."""

    rows: int = 0
    files: int = 0
    bytes: int = 0


def compact_cache(cache: LLMCache, keep: Keep, dry_run: bool = False) -> Compacted:
    """Rewrite the parts that hold rows which `keep` refuses or which are there twice, and those that are small.

    A `dry_run` does the same without touching the disk. Raises DataError when a part is damaged.
    """
    parts = cache.parts()[::-1]
    staying = _staying(parts, keep, cache)
    rewritten = [part for part in parts if not staying[part].all() or part.stat().st_size < SMALL]
    lost = sum(len(mask) - int(mask.sum()) for mask in staying.values())
    if not lost and len(rewritten) < 2:
        return Compacted()
    before = sum(part.stat().st_size for part in rewritten)
    files = after = 0
    for content in _contents(rewritten, staying, cache):
        files, after = files + 1, after + len(content)
        if not dry_run:
            with atomic_path(cache.next_part()) as temporary:
                temporary.write_bytes(content)
    if not dry_run:
        for part in rewritten:
            part.unlink()
    return Compacted(lost, len(rewritten) - files, before - after)


def _staying(parts: list[Path], keep: Keep, cache: LLMCache) -> dict[Path, pl.Series]:
    """Which rows of each part stay; of rows with one key the first of the newest part."""
    narrow = [_read(part, cache, ["key", "created_at"]) for part in parts]
    if not narrow:
        return {}
    rows = pl.concat(narrow)
    mask = (rows["key"].is_first_distinct() & keep(rows)).fill_null(True)
    starts = [0, *pl.Series([frame.height for frame in narrow]).cum_sum()]
    return {part: mask[starts[n] : starts[n + 1]] for n, part in enumerate(parts)}


def _contents(parts: list[Path], staying: dict[Path, pl.Series], cache: LLMCache) -> Iterator[bytes]:
    """The rows of `parts` that stay, as the bytes of as few new parts as memory allows."""
    pending: list[pl.DataFrame] = []
    for part in parts:
        pending.append(_read(part, cache, list(cache.schema)).filter(staying[part]))
        if sum(rows.estimated_size() for rows in pending) >= WHOLE:
            yield _encoded(pending)
            pending = []
    if any(rows.height for rows in pending):
        yield _encoded(pending)


def _encoded(rows: list[pl.DataFrame]) -> bytes:
    stream = io.BytesIO()
    pl.concat(rows).write_parquet(stream)
    return stream.getvalue()


def _read(part: Path, cache: LLMCache, columns: list[str]) -> pl.DataFrame:
    """Columns of a part; those that an earlier version did not write are null."""
    try:
        stored = pl.scan_parquet(part, schema=cache.schema, missing_columns="insert", glob=False)
        return stored.select(columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{part} is damaged ({reason}): delete it and run again") from error
