"""The one home of finished rows: what an LLM or an encoder made, by kind and key.

A key is the hash of everything that its row depends on. So an interrupted run, a reverted template or an item that
returns costs no work, and equal inputs share a row across datasets and variants. Each kind is one SQLite file: a row is
there as a whole or not at all, whatever ends the process, and two runs may write at once. Each row carries a checksum:
one whose bytes have changed is as good as none.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rallrec_pipeline.errors import DamagedError, DataError, StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path, is_full_disk
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.lake.old_caches import old_files, old_folder, read_old
from rallrec_pipeline.lake.row_checksums import CHECKSUM, add_checksum_function, lenient_text, row_checksum
from rallrec_pipeline.lake.salvage import header_is_sound, salvage_rows

Columns = Mapping[str, pl.DataType | type[pl.DataType]]

FLOATS = pl.List(pl.Float64)
FORMAT = 2  # of the file; zero is one that is not filled from old caches yet, one had no checksums
PAGE = 8192  # bytes: a vector of 384 float32 fits in without waste
ASKED_AT_ONCE = 1_000_000  # keys
WAIT_S = 60  # for another writer
JOURNAL_INDEX = 2**16  # bytes: SQLite makes the index of its journal in steps of half of that


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


DESCRIPTIONS = Kind("descriptions", {"prompt": pl.String, "text": pl.String, "status": pl.String, "attempts": pl.Int8})
# `seconds` is what the row cost, so that a reused row still tells.
SCORES = Kind("scores", {"probabilities": FLOATS, "seconds": pl.Float64})
# `vector` is float32, little-endian: the memo need not know how wide a model is.
VECTORS = Kind("vectors", {"vector": pl.Binary, "data_version": pl.String}, wide=True)
# `ended` is 0 where the most tokens cut the text off.
TRACES = Kind("traces", {"text": pl.String, "tokens": pl.Int64, "ended": pl.Int8, "seconds": pl.Float64})
KINDS = (DESCRIPTIONS, SCORES, VECTORS, TRACES)


_mended: set[Path] = set()


class Memo:
    """The finished rows of one kind in one lake. Every method raises DataError when the file is damaged or in use."""

    def __init__(self, lake: Path, kind: Kind, log: Callable[[str], None] = lambda line: None) -> None:
        self.lake, self.kind, self.log = lake, kind, log
        self.path = lake / "cache" / f"{kind.name}.sqlite"

    def find(self, keys: Iterable[str]) -> pl.DataFrame:
        """The rows of the kind's schema among `keys`, one per key; a text that was not stored is empty.

        Damaged rows are left out.
        """
        schema = self.kind.schema
        with self._opened() as connection:
            _put_keys(connection, "asked", keys)
            checksum = CHECKSUM if _format(connection) > 1 else self._sum()  # an old file that may only be read
            select = f"SELECT {', '.join(schema)}, {checksum} FROM asked CROSS JOIN rows USING (key)"
            stored = connection.execute(select).fetchall()
        found = [row[:-1] for row in stored if row[-1] == row_checksum(row[:-1])]
        if lost := len(stored) - len(found):
            self.log(f"{self.path}: {_rows(lost)} damaged and made anew")
        columns: Iterable[Sequence[Any]] = zip(*found, strict=True) if found else [()] * len(schema)
        loaded = [_loaded(name, values, schema[name]) for name, values in zip(schema, columns, strict=True)]
        return pl.DataFrame(loaded).with_columns(pl.col(pl.String).fill_null(""))

    def damage(self) -> tuple[int, list[str]]:
        """How many rows there are, and what is wrong with the file, in words: damaged rows, or its structure."""
        if not self.path.exists():
            return 0, []
        try:
            with self._opened() as connection:
                wrong = self._faults(connection)
                bad = self._bad() if _format(connection) > 1 else "0"
                total, bad = connection.execute(f"SELECT count(*), ifnull(sum({bad}), 0) FROM rows").fetchone()
        except DamagedError as error:
            return 0, [str(error)]
        return total, wrong + ([f"{_rows(bad)} damaged"] if bad else [])

    def _faults(self, connection: sqlite3.Connection) -> list[str]:
        """What is wrong with the structure of the file."""
        first = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0]).replace("\n", " ")
        if first == "ok" and self.path.stat().st_size and not header_is_sound(self.path):
            first = "its header"
        return [] if first == "ok" else [f"its structure is damaged ({first})"]

    def mend(self) -> None:
        """Make a damaged file whole again, once per process: sound rows stay, and those that cannot be read go.

        What a killed process was making of it goes. Only who is about to work may do this; status and lineage leave the
        file as it is.
        """
        if self.path in _mended:
            return
        if self._drafts():
            with self._locked():
                self._sweep()
        if not self.path.exists():
            return
        if self._is_broken():
            with self._locked():
                if self._is_broken():  # else another run was first, and has stored more since
                    saved = self._salvage()
                    self.log(f"{self.path} was damaged: {_rows(saved)} saved, others are made anew")
        _mended.add(self.path)

    def _is_broken(self) -> bool:
        """Whether the structure of the file, which is there, is damaged; of a sound one damaged rows go.

        Under a damaged key nobody would ever ask for such a row, and it would be named for ever.
        """
        try:
            with self._opened() as connection:
                if self._faults(connection):
                    return True
                if not self._is_read_only():
                    self._drop_damaged(connection)
                return False
        except DamagedError:
            return True

    def _drop_damaged(self, connection: sqlite3.Connection) -> None:
        lost = int(connection.execute(f"SELECT count(*) FROM rows WHERE {self._bad()}").fetchone()[0])
        if lost:  # else no other writer need wait
            with connection:
                connection.execute(f"DELETE FROM rows WHERE {self._bad()}")
            self.log(f"{self.path}: {_rows(lost)} damaged and made anew if a run needs them")

    def _salvage(self) -> int:
        """Replace the file by one with the rows that can still be read and are what was written; returns how many."""
        with atomic_path(self.path) as temporary, closing(sqlite3.connect(temporary)) as connection:
            add_checksum_function(connection)
            self._create(connection)
            saved = salvage_rows(self.path, connection, list(self.kind.schema), self._table())
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            self._drop_journal()
        return saved

    def _drop_journal(self) -> None:
        """Remove what an earlier file has left beside it: a new one must not take it for its own."""
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def known(self, keys: Iterable[str]) -> set[str]:
        """Which of `keys` have a row, damaged or not; reads no more than keys."""
        with self._opened() as connection:
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
            with self._opened(create=True) as connection:
                self._insert(connection, "REPLACE", rows)

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
            f" OR (created_at >= ? AND key NOT IN (SELECT key FROM superseded)), 1) OR {self._bad()})"
        )
        with self._opened() as connection:
            _put_keys(connection, "kept", keep)
            _put_keys(connection, "superseded", superseded)
            found = f"SELECT count(*), ifnull(sum({size}), 0) FROM rows WHERE {goes}"
            count, freed = connection.execute(found, [oldest]).fetchone()
            if count and not dry_run:
                _delete(connection, goes, [oldest])
        return int(count), int(freed)

    def keep_only(self, keys: Collection[str], dry_run: bool = False) -> int:
        """Remove all rows but those of `keys`, whatever their age, and what SQLite still holds of earlier ones.

        Returns how many; a dry run only counts.
        """
        with self._opened() as connection:
            _put_keys(connection, "kept", keys)
            goes = "key NOT IN (SELECT key FROM kept)"
            count = int(connection.execute(f"SELECT count(*) FROM rows WHERE {goes}").fetchone()[0])
            if not dry_run:
                _delete(connection, goes, [])
        return count

    @contextmanager
    def _opened(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection to the file, or to an empty one in memory where nothing was ever stored.

        A connection serves one call: none is shared by threads, and no file beside the one of the kind stays open.
        """
        on_disk = create or self.path.exists() or bool(old_files(self.lake, self.kind.name))
        try:
            if on_disk:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._begin()
            address = self._address() if on_disk else "file::memory:"
            with closing(sqlite3.connect(address, WAIT_S, uri=True)) as connection:
                connection.text_factory = lenient_text
                add_checksum_function(connection)
                if (found := _format(connection)) != FORMAT and not (found == 1 and self._is_read_only()):
                    self._prepare(connection, on_disk)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _begin(self) -> None:
        """Make the file where there is none: it gets its name with its first page. So an empty one is damaged.

        Raises DamagedError for that.
        """
        if not self.path.exists():
            with self._locked():
                if not self.path.exists():  # no other run was first
                    self._sweep()
                    with TemporaryDirectory(dir=self.path.parent, prefix=f".check-{self.path.stem}-") as scratch:
                        draft = Path(scratch, self.path.name)
                        with closing(sqlite3.connect(draft)) as connection:
                            add_checksum_function(connection)
                            self._create(connection)
                        self._drop_journal()
                        draft.replace(self.path)
        if not self.path.stat().st_size:
            raise self._damaged("it is empty")

    def _drafts(self) -> list[Path]:
        """What runs are making of the file, or were when they were killed: all of it under temporary names."""
        names = (f".check-{self.path.stem}-*", f".{self.path.name}.*")
        return [path for name in names for path in self.path.parent.glob(name)]

    def _sweep(self) -> None:
        """Take away what killed runs were making; whoever calls holds the lock, so that nobody is at it.

        What another user owns stays.
        """
        for path in self._drafts():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _locked(self) -> AbstractContextManager[None]:
        """The lock of those who make the file or make it anew."""
        return lake_lock(self.lake, f"_{self.kind.name}", self.log)

    def _address(self) -> str:
        """A lake that may only be read has no writer, and takes none of the files that coordinate writers."""
        return self.path.absolute().as_uri() + ("?immutable=1" if self._is_read_only() else "")

    def _is_read_only(self) -> bool:
        return self.path.exists() and not os.access(self.path.parent, os.W_OK)

    def _prepare(self, connection: sqlite3.Connection, on_disk: bool) -> None:
        """Make the table, and adopt the rows of caches that earlier versions kept; begun again after a crash."""
        with self._locked() if on_disk else nullcontext():
            if _format(connection) == FORMAT:  # another run was first
                return
            self._create(connection)
            for file in old_files(self.lake, self.kind.name) if on_disk else ():  # newest first
                self._insert(connection, "IGNORE", read_old(file, self.kind.schema))
            if on_disk:
                shutil.rmtree(old_folder(self.lake, self.kind.name), ignore_errors=True)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _create(self, connection: sqlite3.Connection) -> None:
        """The table; one of an older version gets its checksums, of the rows as they are."""
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(self._table().replace("TABLE", "TABLE IF NOT EXISTS", 1))
        self._require_known(connection)
        if CHECKSUM not in (column[1] for column in connection.execute("PRAGMA table_info(rows)")):
            connection.execute(f"ALTER TABLE rows ADD COLUMN {CHECKSUM}")
        with connection:
            connection.execute(f"UPDATE rows SET {CHECKSUM} = {self._sum()} WHERE {CHECKSUM} IS NULL")

    def _require_known(self, connection: sqlite3.Connection) -> None:
        """Raises StaleArtefactError for a file of a newer version; where the rows are known its number is damaged."""
        if _format(connection) > FORMAT:
            rows = connection.execute("SELECT * FROM rows LIMIT 100").fetchall()
            if not any(row[-1] == row_checksum(row[:-1]) for row in rows):
                raise StaleArtefactError(
                    f"{self.path} is of a newer version of this program: update it, or use another lake"
                )

    def _table(self) -> str:
        """The statement that makes the table."""
        own = ", ".join(name for name in self.kind.schema if name != "key")
        order = "" if self.kind.wide else "WITHOUT ROWID"
        return f"CREATE TABLE rows (key TEXT PRIMARY KEY NOT NULL, {own}, {CHECKSUM}) {order}".rstrip()

    def _sum(self) -> str:
        return f"row_checksum({', '.join(self.kind.schema)})"

    def _bad(self) -> str:
        """Of a row in SQL: whether it is damaged."""
        return f"{CHECKSUM} IS NOT {self._sum()}"

    def _insert(self, connection: sqlite3.Connection, conflict: str, rows: pl.DataFrame) -> None:
        schema = self.kind.schema
        columns = [_stored(rows, name, dtype) for name, dtype in schema.items()]
        names, marks = ", ".join((*schema, CHECKSUM)), ", ".join("?" * (len(schema) + 1))
        statement = f"INSERT OR {conflict} INTO rows ({names}) VALUES ({marks})"
        with connection:
            connection.executemany(statement, ((*row, row_checksum(row)) for row in zip(*columns, strict=True)))

    def _explained(self, error: sqlite3.Error | OSError) -> DataError:
        reason = str(error).partition("\n")[0]
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return DataError(f"{self.path} is in use by another run: run again when that has ended")
        full = code.startswith("SQLITE_FULL") or (isinstance(error, OSError) and is_full_disk(error))
        if full or (code.startswith("SQLITE_IOERR") and self._is_disk_full()):
            return DataError(f"no space left to write {self.path}: free some disk space and run again")
        if isinstance(error, OSError) or code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return DataError(f"cannot write {self.path} ({reason}): make the folder writable and run again")
        if code.startswith("SQLITE_IOERR"):
            return DataError(f"cannot read or write {self.path} ({reason}): check the disk and run again")
        return self._damaged(reason)

    def _damaged(self, reason: str) -> DamagedError:
        return DamagedError(f"{self.path} is damaged ({reason}): run again, sound rows are kept, others made anew")

    def _is_disk_full(self) -> bool:
        """SQLite calls a full disk an I/O error where it was the index of the journal that had no room."""
        return shutil.disk_usage(self.path.parent).free < JOURNAL_INDEX


def _format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _delete(connection: sqlite3.Connection, goes: str, values: Sequence[str]) -> None:
    """Remove rows, and the pages that held them."""
    with connection:
        connection.execute(f"DELETE FROM rows WHERE {goes}", values)
    connection.execute("VACUUM")


def _put_keys(connection: sqlite3.Connection, table: str, keys: Iterable[str]) -> None:
    """Make a temporary table of `keys`."""
    connection.execute(f"CREATE TEMP TABLE {table} (key TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID")
    distinct = sorted(set(keys))
    with connection:
        for start in range(0, len(distinct), ASKED_AT_ONCE):
            asked = json.dumps(distinct[start : start + ASKED_AT_ONCE])
            connection.execute(f"INSERT OR IGNORE INTO {table} SELECT value FROM json_each(?)", [asked])


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
