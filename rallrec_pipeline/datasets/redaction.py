"""Rows of forgotten users are taken out of raw files: of those that lie there, and of whatever is fetched later.

The dataset's own reader says which records are theirs. `.redacted.json` beside the files says what each was as it was
published and what it is now, so that a file with a pinned checksum still counts as good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.fields import id_field
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.readers import mapped_columns, raw_folder
from rallrec_pipeline.datasets.rewriting import has_data, put_in_place, stage_parts
from rallrec_pipeline.datasets.rows import open_rows
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.checksums import digest
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.tombstones import Tombstones, read_tombstones
from rallrec_pipeline.sources.source import SourceFile

STATE = ".redacted.json"
USER = "user_id"


@dataclass(frozen=True)
class RedactedFile:
    """One raw file: how many records are taken out, its checksum as it was published, and as it lies there now."""

    file: str
    rows: int
    before: str
    after: str
    pinned: str | None = None
    """The checksum that the dataset's TOML file pins."""


@dataclass(frozen=True)
class Redaction:
    """The rule for the raw files of one dataset."""

    spec: DatasetSpec
    folder: Path
    stones: Tombstones

    def is_good(self, file: SourceFile) -> bool:
        """Whether what lies there is what is left of the right file, without a row of any forgotten user."""
        path, known = self.folder / file.name, self._known().get(file.name)
        if known is None or not path.exists():
            return False
        published, lies, stones = known
        return lies == _version(path) and stones == self._stones() and file.sha256 in (None, published)

    def clean(self, file: SourceFile) -> None:
        """Take the rows out of a file that lies there already; not of one that is other than what is pinned."""
        path, known = self.folder / file.name, self._known().get(file.name)
        if not path.exists():
            return
        published, lies, stones = known or ("", "", "")
        now = _version(path)
        published = published if lies == now else now
        if file.sha256 in (None, published) and (lies, stones) != (now, self._stones()):
            self.redact(file, path)

    def redact(self, file: SourceFile, path: Path) -> RedactedFile:
        """Take the rows out of `path`, which is or will be `file`. Raises DataError where that cannot be done."""
        before = _version(path)
        rows = sum(take_out(path, table, columns, self.stones) for table, columns in self._tables(file.name))
        known = self._known()
        published = known[file.name][0] if file.name in known and known[file.name][1] == before else before
        after = _version(path)
        files = known | {file.name: (published, after, self._stones())}
        write_sealed(self.folder / STATE, {"files": files})
        return RedactedFile(file.name, rows, published, after, file.sha256)

    def count(self, file: SourceFile) -> int:
        """How many records would be taken out of a raw file that lies there."""
        path = self.folder / file.name
        if not path.exists():
            return 0
        found = (rows_of(path, table, columns, self.stones) for table, columns in self._tables(file.name))
        return sum(rows.height for rows in found)

    def _tables(self, name: str) -> Iterator[tuple[TableFile, dict[str, ColumnSpec]]]:
        """The tables with users that are read from a file, and the columns that their readers take."""
        if self.spec.interactions.file == name:
            yield self.spec.interactions, mapped_columns(self.spec.interactions, (USER, "item_id"))
        if self.spec.users is not None and self.spec.users.file == name:
            yield self.spec.users, mapped_columns(self.spec.users, (USER, *self.spec.user_fields))

    def _stones(self) -> str:
        return self.stones.users[-1] if self.stones.users else ""

    def _known(self) -> dict[str, tuple[str, str, str]]:
        try:
            files = read_sealed(self.folder / STATE)["files"]
            return {name: (str(was), str(lies), str(stones)) for name, (was, lies, stones) in files.items()}
        except (DataError, KeyError, TypeError, ValueError, AttributeError):
            return {}


def redaction_of(spec: DatasetSpec, lake: Path) -> Redaction | None:
    """The rule for the raw files of a dataset; None where nobody was forgotten. Raises DataError."""
    stones = read_tombstones(lake, spec.name)
    return Redaction(spec, raw_folder(lake, spec.name), stones) if stones.users else None


def rows_of(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec], stones: Tombstones) -> pl.DataFrame:
    """`line` (the first is 1) and `lines` of each record of a forgotten user, and of rows that name one and are none.

    Raises DataError when the file cannot be read as its table says.
    """
    user, whole = id_field(USER, columns[USER], table.empty), table.model_copy(update={"where": {}})
    is_one = table.format in BINARY or table.format == "json_lines"  # records of a document are counted, not its lines
    lines = pl.lit(1) if is_one else pl.col("text").str.count_matches("\n") + 1
    with open_rows(path, whole, columns) as (rows, refused):
        ids = rows.select(user.unique()).collect(engine="streaming").to_series()
        theirs = user.is_in(stones.among(ids.drop_nulls()))
        found = rows.filter(theirs).select("line", lines.cast(pl.Int64).alias("lines")).collect(engine="streaming")
        named = [stones.named_in(text) for text in refused["text"]]
        bad = refused.filter(pl.Series(named, dtype=pl.Boolean)).select("line", lines.cast(pl.Int64).alias("lines"))
    return pl.concat([found, bad]).sort("line")


def take_out(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec], stones: Tombstones) -> int:
    """Rewrite a raw file, or the parts of one, without the records of forgotten users; returns how many these were.

    Raises DataError for a workbook, which nothing here can write, and where the rewritten one would still have a
    record of theirs; nothing is changed then.
    """
    rows = rows_of(path, table, columns, stones)
    if rows.height and table.format == "excel":
        raise DataError(
            f"{path} is a workbook, which is only read here: save its sheet as CSV, name that in the TOML file, and "
            "run this again"
        )
    if rows.height:
        with TemporaryDirectory(dir=path.parent, prefix=".redact-") as scratch:
            staged = Path(scratch) / path.name
            stage_parts(path, table, columns[USER].column, rows, stones, staged)
            if has_data(staged) and (left := rows_of(staged, table, columns, stones).height):
                raise DataError(
                    f"{path} would keep {left} records of a forgotten user, so it stays as it is: take them out by hand"
                )
            put_in_place(path, staged)
    return rows.height


def _version(path: Path) -> str:
    return digest(path) if path.is_file() else content_version([path])
