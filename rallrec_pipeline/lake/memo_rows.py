"""Finished rows as SQLite holds them: what kinds there are, and the table of one.

Each row carries a checksum of its values: one whose bytes have changed is as good as none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rallrec_pipeline.lake.row_checksums import CHECKSUM, row_checksum

Columns = Mapping[str, pl.DataType | type[pl.DataType]]

FLOATS = pl.List(pl.Float64)


@dataclass(frozen=True)
class Kind:
    """A kind of finished row: its name and the columns of its own; wide ones lie beside the keys, not among them."""

    name: str
    columns: Columns
    wide: bool = False

    @property
    def schema(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        """All columns; `key`, `run_id` and `created_at` (ISO 8601, UTC) are common to all kinds."""
        return {"key": pl.String, **self.columns, "run_id": pl.String, "created_at": pl.String}

    @property
    def table(self) -> str:
        """The statement that makes the table."""
        own = ", ".join(name for name in self.schema if name != "key")
        order = "" if self.wide else "WITHOUT ROWID"
        return f"CREATE TABLE rows (key TEXT PRIMARY KEY NOT NULL, {own}, {CHECKSUM}) {order}".rstrip()

    @property
    def sum(self) -> str:
        """Of a row in SQL: the checksum that its values have."""
        return f"row_checksum({', '.join(self.schema)})"

    @property
    def bad(self) -> str:
        """Of a row in SQL: whether it is damaged."""
        return f"{CHECKSUM} IS NOT {self.sum}"


DESCRIPTIONS = Kind("descriptions", {"prompt": pl.String, "text": pl.String, "status": pl.String, "attempts": pl.Int8})
# `seconds` is what the row cost, so that a reused row still tells.
SCORES = Kind("scores", {"probabilities": FLOATS, "seconds": pl.Float64})
# `vector` is float32, little-endian: the memo need not know how wide a model is.
VECTORS = Kind("vectors", {"vector": pl.Binary, "data_version": pl.String}, wide=True)
# `ended` is 0 where the most tokens cut the text off.
TRACES = Kind("traces", {"text": pl.String, "tokens": pl.Int64, "ended": pl.Int8, "seconds": pl.Float64})
KINDS = (DESCRIPTIONS, SCORES, VECTORS, TRACES)


def insert_rows(connection: sqlite3.Connection, kind: Kind, conflict: str, rows: pl.DataFrame) -> None:
    """Store rows with their checksums, all or none; `conflict` (REPLACE, IGNORE) says what becomes of a known key.

    Raises ValueError when a number in a list is not finite.
    """
    columns = [_stored(rows, name, dtype) for name, dtype in kind.schema.items()]
    names, marks = ", ".join((*kind.schema, CHECKSUM)), ", ".join("?" * (len(kind.schema) + 1))
    statement = f"INSERT OR {conflict} INTO rows ({names}) VALUES ({marks})"
    with connection:
        connection.executemany(statement, ((*row, row_checksum(row)) for row in zip(*columns, strict=True)))


def rows_of(kind: Kind, stored: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """What SQLite holds (without checksums) as a table of the kind's schema; a text that was not stored is empty."""
    schema = kind.schema
    columns: Iterable[Sequence[Any]] = zip(*stored, strict=True) if stored else [()] * len(schema)
    loaded = [_loaded(name, values, schema[name]) for name, values in zip(schema, columns, strict=True)]
    return pl.DataFrame(loaded).with_columns(pl.col(pl.String).fill_null(""))


def _stored(rows: pl.DataFrame, name: str, dtype: pl.DataType | type[pl.DataType]) -> list[Any]:
    """A column as SQLite keeps it: lists of numbers as JSON, which keeps every bit of a finite one."""
    if name not in rows.columns:
        return [None] * rows.height
    values = rows[name].cast(dtype).to_list()
    return [v if v is None else json.dumps(v, allow_nan=False) for v in values] if dtype == FLOATS else values


def _loaded(name: str, values: Sequence[Any], dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    if dtype == FLOATS:
        return pl.Series(name, values, dtype=pl.String).str.json_decode(FLOATS)
    return pl.Series(name, values, dtype=dtype)
