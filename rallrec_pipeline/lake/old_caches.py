"""Finished rows as earlier versions kept them: Parquet parts, and vectors that lie in no cache but in their table.

Here is nothing but what `lake/memo_file.py` needs to adopt them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.vectors import vector_version, vectors_of, vectors_to_bytes

ENCODED = ("title", "description")  # kinds of embeddings whose vectors an encoder made


def old_folder(lake: Path, kind: str) -> Path:
    """Where an earlier version kept the parts of a kind."""
    return lake / "cache" / kind


def old_files(lake: Path, kind: str) -> list[Path]:
    """Files with finished rows of `kind`: shards of tables, then parts, the newest first."""
    tables = [p for e in ENCODED for p in sorted((lake / "embeddings" / e).glob("*.parquet"))]
    shards = [shard for table in tables for shard in shard_files(table)] if kind == "vectors" else []
    parts = old_folder(lake, kind).glob("**/part-[0-9]*.parquet")
    return shards + sorted(parts, key=lambda part: (_number(part), part), reverse=True)


def read_old(file: Path, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """The finished rows of `file`; columns that it lacks are null. A vector that is not what its hash says is none.

    Raises DataError when a part is damaged; a damaged shard has no rows, so that its vectors are made again.
    """
    is_shard = not file.name.startswith("part-")
    try:
        rows = pl.read_parquet(file, glob=False)
        if is_shard:
            vectors = pl.Series("vector", vectors_to_bytes(vectors_of(rows)), pl.Binary)
            rows = rows.with_columns(vectors, pl.col("input_hash").alias("key"))
        found = rows.select(
            (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in schema.items()
            if name != "key"
        ).insert_column(0, rows["key"].cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as error:
        if is_shard:
            return pl.DataFrame(schema=dict(schema))
        reason = str(error).partition("\n")[0]
        raise DataError(f"{file} is damaged ({reason}): delete it and run again") from error
    if "vector" not in schema:
        return found
    sound = [vector_version(v) == said for v, said in found.select("vector", "data_version").iter_rows()]
    return found.filter(pl.Series(sound, dtype=pl.Boolean))


def _number(part: Path) -> int:
    digits = part.stem.split("-")[1]
    return int(digits) if digits.isdecimal() else 0
