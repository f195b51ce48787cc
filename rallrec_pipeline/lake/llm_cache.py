"""Finished LLM results, kept by what they were made from.

A result is found by its key alone (a 128-bit hash of prompt, template, model and sampling), so an interrupted
run, a reverted template or a re-added item costs no LLM call. The cache is a folder of Parquet parts that are
only ever added; parts are numbered after the highest one there, so a lost part never makes two collide, and carry
a random suffix, so two runs that share the lake (one per dataset) never overwrite each other's.
"""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path

PART = re.compile(r"part-(\d{6,})(-[0-9a-f]{8})?\.parquet")
SCHEMA = {
    "key": pl.String,
    "text": pl.String,
    "status": pl.String,
    "attempts": pl.Int8,
    "run_id": pl.String,
    "created_at": pl.String,
}


class LLMCache:
    """Texts of one kind (`descriptions`), by key."""

    def __init__(self, lake: Path, kind: str) -> None:
        self.folder = lake / "cache" / kind

    def find(self, keys: list[str]) -> pl.DataFrame:
        """The rows of `SCHEMA` whose key is asked for, newest part first, one per key. Raises DataError."""
        parts = self._parts()
        if not parts:
            return pl.DataFrame(schema=SCHEMA)
        wanted = pl.LazyFrame({"key": keys}, schema={"key": pl.String})
        try:
            found = pl.concat([pl.scan_parquet(part) for part in reversed(parts)])
            rows = found.join(wanted, on="key", how="semi", maintain_order="left").collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            damaged = ", ".join(str(part) for part in parts if not _is_good(part))
            advice = f"delete {damaged} and run again" if damaged else "run again"
            raise DataError(f"the cache {self.folder} is damaged ({reason}): {advice}") from error
        return rows.unique("key", keep="first", maintain_order=True)

    def add(self, rows: pl.DataFrame) -> None:
        """Store finished rows as one more part; no rows is no part."""
        if rows.is_empty():
            return
        number = max(map(_number, self._parts()), default=0) + 1
        with atomic_path(self.folder / f"part-{number:06d}-{uuid4().hex[:8]}.parquet") as temporary:
            rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).write_parquet(temporary)

    def _parts(self) -> list[Path]:
        return sorted((p for p in self.folder.glob("part-*.parquet") if PART.fullmatch(p.name)), key=_number)


def _number(part: Path) -> int:
    return int(part.stem.split("-")[1])


def _is_good(part: Path) -> bool:
    try:
        return dict(pl.read_parquet(part).schema) == SCHEMA
    except (pl.exceptions.PolarsError, OSError):
        return False
