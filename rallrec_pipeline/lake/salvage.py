"""Rows out of a damaged SQLite file: what can be read from either end, and is what was written."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rallrec_pipeline.lake.row_checksums import CHECKSUM, lenient_text, row_checksum

CONSTANT = (slice(0, 24), slice(44, 48), slice(52, 60), slice(64, 68))
"""Bytes of the header that are the same for all files that are made in one way."""
SIZE = slice(28, 32)


def salvage_rows(damaged: Path, into: sqlite3.Connection, columns: Sequence[str], table: str) -> int:
    """Copy sound rows of the file `damaged` to the table `rows` of `into`, which is empty; `table` makes that table.

    Returns how many. The damaged file is not changed: a copy gets the header and the name of the table that it must
    have had.
    """
    names = ", ".join((*columns, CHECKSUM))
    insert = f"INSERT OR REPLACE INTO rows ({names}) VALUES ({', '.join('?' * (len(columns) + 1))})"
    saved = set[str]()
    with TemporaryDirectory(dir=damaged.parent, prefix=f".check-{damaged.stem}-") as scratch:
        copy = Path(scratch, "copy.sqlite")
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(damaged.with_name(damaged.name + suffix), copy.with_name(copy.name + suffix))
        _restore_header(copy, into)
        _restore_schema(copy, table)
        for order in ("", " ORDER BY key DESC", " NOT INDEXED", " NOT INDEXED ORDER BY rowid DESC"):
            with into:
                for row in _read(copy, f"SELECT {names} FROM rows{order}"):
                    if row[0] not in saved and row[-1] == row_checksum(row[:-1]):
                        into.execute(insert, row)
                        saved.add(row[0])
    return len(saved)


def _read(path: Path, select: str) -> Iterator[tuple[Any, ...]]:
    """Rows up to the first that cannot be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lenient_text
        yield from connection.execute(select)


def header_is_sound(path: Path) -> bool:
    """Whether the file says of itself that it can be written, which SQLite takes from the header unasked."""
    with path.open("rb") as file:
        header = file.read(100)
    return header[18:20] in (b"\1\1", b"\2\2") and header[21:24] == b"\x40\x20\x20"


def _restore_header(path: Path, pattern: sqlite3.Connection) -> None:
    """Write over the first bytes of a file those of the database of `pattern`, which was made in the same way."""
    pattern.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    place = Path(pattern.execute("PRAGMA database_list").fetchone()[2])
    page = int(pattern.execute("PRAGMA page_size").fetchone()[0])
    with path.open("r+b") as file, place.open("rb") as sound:
        header, right = bytearray(file.read(100)), sound.read(100)
        if len(header) < len(right):
            return
        for part in CONSTANT:
            header[part] = right[part]
        header[SIZE] = (path.stat().st_size // page).to_bytes(4)
        file.seek(0)
        file.write(header)


def _restore_schema(path: Path, table: str) -> None:
    """Let the schema of a file say what it said."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        with connection:
            named = "type = 'table', name = 'rows', tbl_name = 'rows'"
            connection.execute(f"UPDATE sqlite_master SET {named}, sql = ? WHERE rowid = 1", [table])
