"""Finished LLM results, kept by what they were made from.

A result is found by its key alone (a 128-bit hash of prompt, template, model and sampling), so an interrupted
run, a reverted template or a re-added item costs no LLM call. The cache is a folder of Parquet parts that are
only ever added; parts are numbered after the highest one there, so a lost part never makes two collide, and carry
a random suffix, so two runs that share the lake (one per dataset) never overwrite each other's.

A kind of result has its columns. A part that an earlier version wrote may lack some: they are empty, and no result
is lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path

PART = re.compile(r"part-(\d{6,})(-[0-9a-f]{8})?\.parquet")
Schema = Mapping[str, pl.DataType | type[pl.DataType]]

DESCRIPTIONS: Schema = {
    "key": pl.String,
    "prompt": pl.String,
    "text": pl.String,
    "status": pl.String,
    "attempts": pl.Int8,
    "run_id": pl.String,
    "created_at": pl.String,
}
SCORES: Schema = {
    "key": pl.String,
    "probabilities": pl.List(pl.Float64),
    "seconds": pl.Float64,  # what the row cost, so that a reused row still tells
    "run_id": pl.String,
    "created_at": pl.String,
}


class LLMCache:
    """Results of one kind (`descriptions`, `scores`), by key; the columns `key`, `run_id`, `created_at` are common."""

    def __init__(self, lake: Path, kind: str, schema: Schema = DESCRIPTIONS) -> None:
        self.folder = lake / "cache" / kind
        self.schema = dict(schema)

    def find(self, keys: Sequence[str]) -> pl.DataFrame:
        """The rows of `schema` whose key is asked for, newest part first, one per key. Raises DataError.

        A column that a part lacks is null, or the empty text.
        """
        rows = self._scan(keys, list(self.schema))
        return rows.unique("key", keep="first", maintain_order=True).with_columns(pl.col(pl.String).fill_null(""))

    def add(self, rows: pl.DataFrame) -> None:
        """Store finished rows as one more part; no rows is no part, and what `rows` lacks stays empty."""
        if rows.is_empty():
            return
        columns = [_column(rows, name, dtype) for name, dtype in self.schema.items()]
        with atomic_path(self.next_part()) as temporary:
            rows.select(columns).write_parquet(temporary)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Which of `keys` have a result; reads no result. Raises DataError."""
        return set(self._scan(keys, ["key"])["key"])

    def next_part(self) -> Path:
        """Path of a part that is newer than all there are."""
        number = max(map(_number, self.parts()), default=0) + 1
        return self.folder / f"part-{number:06d}-{uuid4().hex[:8]}.parquet"

    def drop_parts_within(self, keys: Collection[str]) -> None:
        """Delete the parts that hold nothing but `keys`, because these rows are kept elsewhere."""
        elsewhere = set(keys)
        for part in self.parts():
            try:
                inside = set(pl.read_parquet(part, columns=["key"])["key"])
            except (pl.exceptions.PolarsError, OSError):
                continue  # it is damaged, as `find` will say
            if inside <= elsewhere:
                part.unlink()

    def parts(self) -> list[Path]:
        """Files of the cache, oldest first; those of one number are in a fixed order too."""
        parts = [part for part in self.folder.glob("part-*.parquet") if PART.fullmatch(part.name)]
        return sorted(parts, key=lambda part: (_number(part), part.name))

    def _scan(self, keys: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        parts = self.parts()[::-1]
        if not parts:
            return pl.DataFrame(schema=self.schema).select(columns)
        wanted = pl.LazyFrame({"key": keys}, schema={"key": pl.String})
        stored = pl.scan_parquet(parts, schema=self.schema, missing_columns="insert", glob=False)
        try:
            return stored.select(columns).join(wanted, on="key", how="semi", maintain_order="left").collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            damaged = ", ".join(str(part) for part in parts if not self._is_good(part))
            advice = f"delete {damaged} and run again" if damaged else "run again"
            raise DataError(f"the cache {self.folder} is damaged ({reason}): {advice}") from error

    def _is_good(self, part: Path) -> bool:
        try:
            found = dict(pl.read_parquet(part).schema)
        except (pl.exceptions.PolarsError, OSError):
            return False
        return "key" in found and found.items() <= self.schema.items()


def _number(part: Path) -> int:
    return int(part.stem.split("-")[1])


def _column(rows: pl.DataFrame, name: str, dtype: pl.DataType | type[pl.DataType]) -> pl.Expr:
    given = pl.col(name) if name in rows.columns else pl.lit(None)
    return given.cast(dtype).alias(name)
