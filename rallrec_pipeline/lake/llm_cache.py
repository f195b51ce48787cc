"""Finished LLM results, kept by what they were made from.

A result is found by its key alone (a 128-bit hash of prompt, template, model and sampling), so an interrupted
run, a reverted template or a re-added item costs no LLM call. The cache is a folder of Parquet parts that are
only ever added; parts are numbered after the highest one there, so a lost part never makes two collide.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path

SCHEMA = {"key": pl.String, "text": pl.String, "status": pl.String, "attempts": pl.Int8}


class LLMCache:
    """Texts of one kind (`descriptions`), by key."""

    def __init__(self, lake: Path, kind: str) -> None:
        self.folder = lake / "cache" / kind

    def find(self, keys: list[str]) -> pl.DataFrame:
        """The rows of `SCHEMA` whose key is asked for, newest first, one per key."""
        parts = self._parts()
        if not parts:
            return pl.DataFrame(schema=SCHEMA)
        wanted = pl.LazyFrame({"key": keys}, schema={"key": pl.String})
        try:
            found = pl.concat([pl.scan_parquet(part) for part in reversed(parts)])
            return found.join(wanted, on="key", how="semi").collect().unique("key", keep="first", maintain_order=True)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"the cache {self.folder} is damaged ({error}): delete the damaged part") from error

    def add(self, rows: pl.DataFrame) -> None:
        """Store finished rows as one more part; no rows is no part."""
        if rows.is_empty():
            return
        parts = self._parts()
        number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 1
        with atomic_path(self.folder / f"part-{number:06d}.parquet") as temporary:
            rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()).write_parquet(temporary)

    def _parts(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("part-*.parquet") if re.fullmatch(r"part-\d{6}", p.stem))
