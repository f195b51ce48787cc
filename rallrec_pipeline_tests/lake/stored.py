"""What lies in a memo, whatever its keys."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl

from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import Kind


def stored_rows(lake: Path, kind: Kind) -> pl.DataFrame:
    """All rows of a kind, in the order of their keys; none where there is no file."""
    memo = Memo(lake, kind)
    if not memo.path.exists():
        return memo.find([])
    with closing(sqlite3.connect(memo.path)) as connection:
        return memo.find(key for (key,) in connection.execute("SELECT key FROM rows")).sort("key")
