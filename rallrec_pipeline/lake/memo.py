"""The one home of finished rows: what an LLM or an encoder made, by kind and key.

A key is the hash of everything that its row depends on. So an interrupted run, a reverted template or an item that
returns costs no work, and equal inputs share a row across datasets and variants. Each kind is one SQLite file: a row is
there as a whole or not at all, whatever ends the process, and two runs may write at once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence

import polars as pl

from rallrec_pipeline.lake.memo_file import MemoFile, file_format, rows_are
from rallrec_pipeline.lake.memo_rows import insert_rows, rows_of
from rallrec_pipeline.lake.row_checksums import CHECKSUM, row_checksum

ASKED_AT_ONCE = 1_000_000  # keys
FREE_SHARE = 0.02  # of a file's pages that may be empty; to give them back copies the whole file


class Memo(MemoFile):
    """The finished rows of one kind in one lake. Every method raises DataError when the file is damaged or in use."""

    def find(self, keys: Iterable[str]) -> pl.DataFrame:
        """The rows of the kind's schema among `keys`, one per key; a text that was not stored is empty.

        Damaged rows are left out.
        """
        with self.opened() as connection:
            _put_keys(connection, "asked", keys)
            checksum = CHECKSUM if file_format(connection) > 1 else self.kind.sum  # an old file that may only be read
            select = f"SELECT {', '.join(self.kind.schema)}, {checksum} FROM asked CROSS JOIN rows USING (key)"
            stored = connection.execute(select).fetchall()
        found = [row[:-1] for row in stored if row[-1] == row_checksum(row[:-1])]
        if lost := len(stored) - len(found):
            self.log(f"{self.path}: {rows_are(lost)} damaged and made anew")
        return rows_of(self.kind, found)

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of `keys` have a row, damaged or not; reads no more than keys."""
        with self.opened() as connection:
            _put_keys(connection, "asked", keys)
            return {key for (key,) in connection.execute("SELECT key FROM asked CROSS JOIN rows USING (key)")}

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Which of `keys` have no row yet."""
        asked = set(keys)
        return asked - self.known(asked)

    def add(self, rows: pl.DataFrame) -> None:
        """Store finished rows, all or none; one with a known key takes its place, and what `rows` lacks stays empty.

        Raises ValueError when a number in a list is not finite.
        """
        if rows.height:
            with self.writing() as connection:
                insert_rows(connection, self.kind, "REPLACE", rows)

    def prune(
        self, keep: Collection[str], oldest: str, superseded: Collection[str] = (), dry_run: bool = False
    ) -> tuple[int, int]:
        """Remove rows; returns how many and their bytes. A dry run only counts.

        Those stay whose key is in `keep`, and those made at `oldest` (ISO 8601, UTC), later or at a time that is not
        known unless their key is in `superseded`. Damaged rows go.
        """
        size = " + ".join(f"ifnull(length(CAST({name} AS BLOB)), 0)" for name in self.kind.schema)
        goes = (
            "(NOT ifnull(key IN (SELECT key FROM kept)"
            f" OR (created_at >= ? AND key NOT IN (SELECT key FROM superseded)), 1) OR {self.kind.bad})"
        )
        with self.opened() if dry_run else self.writing(create=False) as connection:
            _put_keys(connection, "kept", keep)
            _put_keys(connection, "superseded", superseded)
            found = f"SELECT count(*), ifnull(sum({size}), 0) FROM rows WHERE {goes}"
            count, freed = connection.execute(found, [oldest]).fetchone()
            if count and not dry_run:
                _delete(connection, goes, [oldest])
            if not dry_run:
                self._shrink(connection)
        return int(count), int(freed)

    def keep_only(self, keys: Collection[str], dry_run: bool = False) -> int:
        """Remove all rows but those of `keys`, whatever their age, and what SQLite still holds of earlier ones.

        Returns how many; a dry run only counts.
        """
        with self.opened() if dry_run else self.writing(create=False) as connection:
            _put_keys(connection, "kept", keys)
            goes = "key NOT IN (SELECT key FROM kept)"
            count = int(connection.execute(f"SELECT count(*) FROM rows WHERE {goes}").fetchone()[0])
            if not dry_run:
                _delete(connection, goes, [])
                connection.execute("VACUUM")
        return count

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Give back the pages that held removed rows. Where the disk has no room for the copy, another prune will."""
        if _number(connection, "freelist_count") > FREE_SHARE * _number(connection, "page_count"):
            try:
                connection.execute("VACUUM")
            except sqlite3.OperationalError as error:
                self.log(f"{self.path}: removed rows still take room ({error}): free space for a copy and prune again")


def _delete(connection: sqlite3.Connection, goes: str, values: Sequence[str]) -> None:
    with connection:
        connection.execute(f"DELETE FROM rows WHERE {goes}", values)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _put_keys(connection: sqlite3.Connection, table: str, keys: Iterable[str]) -> None:
    """Make a temporary table of `keys`."""
    connection.execute(f"CREATE TEMP TABLE {table} (key TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID")
    distinct = sorted(set(keys))
    with connection:
        for start in range(0, len(distinct), ASKED_AT_ONCE):
            asked = json.dumps(distinct[start : start + ASKED_AT_ONCE])
            connection.execute(f"INSERT OR IGNORE INTO {table} SELECT value FROM json_each(?)", [asked])
