"""The SQLite file of a kind of finished rows: made, opened, checked and made whole again."""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from rallrec_pipeline.errors import DamagedError, DataError, StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path, is_full_disk
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.lake.memo_rows import Kind, insert_rows
from rallrec_pipeline.lake.old_caches import old_files, old_folder, read_old
from rallrec_pipeline.lake.row_checksums import CHECKSUM, add_checksum_function, lenient_text, row_checksum
from rallrec_pipeline.lake.salvage import header_is_sound, salvage_rows

FORMAT = 2  # of the file; zero is one that is not filled from old caches yet, one had no checksums
PAGE = 8192  # bytes: a vector of 384 float32 fits in without waste
WAIT_S = 60  # for another writer
SALVAGE_ROOM = 2**20  # bytes: more than the indexes of three journals
JOURNAL_INDEX = 2**16  # bytes: SQLite makes the index of its journal in steps of half of that

_mended: set[Path] = set()


class MemoFile:
    """The file of one kind in one lake. Every method raises DataError when it is damaged or in use."""

    def __init__(self, lake: Path, kind: Kind, log: Callable[[str], None] = lambda line: None) -> None:
        self.lake, self.kind, self.log = lake, kind, log
        self.path = lake / "cache" / f"{kind.name}.sqlite"

    def damage(self) -> tuple[int, list[str]]:
        """How many rows there are, and what is wrong with the file, in words: damaged rows, or its structure."""
        if not self.path.exists():
            return 0, []
        try:
            with self.opened() as connection:
                wrong = self._faults(connection)
                bad = self.kind.bad if file_format(connection) > 1 else "0"
                total, bad = connection.execute(f"SELECT count(*), ifnull(sum({bad}), 0) FROM rows").fetchone()
        except DataError as error:  # on a full disk nobody knows
            return 0, [str(error)]
        return total, wrong + ([f"{rows_are(bad)} damaged"] if bad else [])

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
                    self.log(f"{self.path} was damaged: {rows_are(saved)} saved, others are made anew")
        _mended.add(self.path)

    @contextmanager
    def opened(self, create: bool = False) -> Iterator[sqlite3.Connection]:
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
                if (found := file_format(connection)) != FORMAT and not (found == 1 and self._is_read_only()):
                    self._prepare(connection, on_disk)
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    @contextmanager
    def writing(self, create: bool = True) -> Iterator[sqlite3.Connection]:
        """As `opened`, while nobody makes the file anew, who would lose what is written meanwhile."""
        is_there = create or self.path.exists()
        with self._locked() if is_there else nullcontext(), self.opened(create) as connection:
            yield connection

    def _faults(self, connection: sqlite3.Connection) -> list[str]:
        """What is wrong with the structure of the file."""
        first = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0]).replace("\n", " ")
        if first == "ok" and self.path.stat().st_size and not header_is_sound(self.path):
            first = "its header"
        return [] if first == "ok" else [f"its structure is damaged ({first})"]

    def _is_broken(self) -> bool:
        """Whether the structure of the file, which is there, is damaged; of a sound one damaged rows go.

        Under a damaged key nobody would ever ask for such a row, and it would be named for ever.
        """
        try:
            with self.opened() as connection:
                if self._faults(connection):
                    return True
                if not self._is_read_only():
                    self._drop_damaged(connection)
                return False
        except DamagedError:
            return True

    def _drop_damaged(self, connection: sqlite3.Connection) -> None:
        lost = int(connection.execute(f"SELECT count(*) FROM rows WHERE {self.kind.bad}").fetchone()[0])
        if lost:  # else no other writer need wait
            with connection:
                connection.execute(f"DELETE FROM rows WHERE {self.kind.bad}")
            self.log(f"{self.path}: {rows_are(lost)} damaged and made anew if a run needs them")

    def _salvage(self) -> int:
        """Replace the file by one with the rows that can still be read and are what was written; returns how many.

        Raises DataError where the disk has no room for that: rows that cannot be copied would count as damaged.
        """
        held = sum(path.stat().st_size for path in self.path.parent.glob(f"{glob.escape(self.path.name)}*"))
        if shutil.disk_usage(self.path.parent).free < 3 * held + SALVAGE_ROOM:  # a copy, the new file and its journal
            raise DataError(f"no space left to mend {self.path}: free some disk space and run again")
        with atomic_path(self.path) as temporary:
            try:
                with closing(sqlite3.connect(temporary)) as connection:
                    add_checksum_function(connection)
                    self._create(connection)
                    saved = salvage_rows(self.path, connection, list(self.kind.schema), self.kind.table)
                    connection.execute(f"PRAGMA user_version = {FORMAT}")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing says nothing of a full disk
            finally:
                _drop_journal(temporary)  # SQLite leaves it where the disk was full
            _drop_journal(self.path)  # whoever reads may make another, but an empty one: to write takes the lock
        return saved

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
                        _drop_journal(self.path)
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
            if file_format(connection) == FORMAT:  # another run was first
                return
            self._create(connection)
            for file in old_files(self.lake, self.kind.name) if on_disk else ():  # newest first
                insert_rows(connection, self.kind, "IGNORE", read_old(file, self.kind.schema))
            if on_disk:
                shutil.rmtree(old_folder(self.lake, self.kind.name), ignore_errors=True)
            connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _create(self, connection: sqlite3.Connection) -> None:
        """The table; one of an older version gets its checksums, of the rows as they are."""
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(self.kind.table.replace("TABLE", "TABLE IF NOT EXISTS", 1))
        self._require_known(connection)
        if CHECKSUM not in (column[1] for column in connection.execute("PRAGMA table_info(rows)")):
            connection.execute(f"ALTER TABLE rows ADD COLUMN {CHECKSUM}")
        with connection:
            connection.execute(f"UPDATE rows SET {CHECKSUM} = {self.kind.sum} WHERE {CHECKSUM} IS NULL")

    def _require_known(self, connection: sqlite3.Connection) -> None:
        """Raises StaleArtefactError for a file of a newer version; where the rows are known its number is damaged."""
        if file_format(connection) > FORMAT:
            rows = connection.execute("SELECT * FROM rows LIMIT 100").fetchall()
            if not any(row[-1] == row_checksum(row[:-1]) for row in rows):
                raise StaleArtefactError(
                    f"{self.path} is of a newer version of this program: update it, or use another lake"
                )

    def _explained(self, error: sqlite3.Error | OSError) -> DataError:
        reason = str(error).partition("\n")[0]
        code = getattr(error, "sqlite_errorname", "")
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return DataError(f"{self.path} is in use by another run: run again when that has ended")
        full = code.startswith("SQLITE_FULL") or (isinstance(error, OSError) and is_full_disk(error))
        if full or (code.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT")) and self._is_disk_full()):
            return DataError(f"no space left to write {self.path}: free some disk space and run again")
        if isinstance(error, OSError) or code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return DataError(f"cannot write {self.path} ({reason}): make the folder writable and run again")
        if code.startswith("SQLITE_IOERR"):
            return DataError(f"cannot read or write {self.path} ({reason}): check the disk and run again")
        return self._damaged(reason)

    def _damaged(self, reason: str) -> DamagedError:
        return DamagedError(f"{self.path} is damaged ({reason}): run again, sound rows are kept, others made anew")

    def _is_disk_full(self) -> bool:
        """Where the index of the journal had no room SQLite tells of an I/O error, or of a malformed file."""
        return shutil.disk_usage(self.path.parent).free < JOURNAL_INDEX


def _drop_journal(file: Path) -> None:
    """Remove what an earlier file has left beside it: a new one must not take it for its own."""
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def file_format(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def rows_are(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"
