"""The files of a dataset that is checked: whether they are there, and how far each can be read as its table says."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.catalog import BUILT_IN
from rallrec_pipeline.datasets.fields import text_field, time_field
from rallrec_pipeline.datasets.readers import column_names, mapped_columns, raw_folder, unclear_columns
from rallrec_pipeline.datasets.spec import ColumnSpec, DatasetSpec, SourceFile, TableFile
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.lake.text import clean_text

MANY_UNREADABLE = 0.01  # share of lines from which an encoding is wrong, not a line
EXAMPLES, EXAMPLE_ROWS = 3, 200
MAX_MESSAGE, MAX_VALUE, MAX_NAMES = 1000, 40, 20
CHUNK = 1 << 22  # bytes
UNREADABLE = "\ufffd"
MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip", b"PAR1": "Parquet"}
MARKS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Findings:
    """What has been found so far."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def problem(self, message: str) -> None:
        self.problems.append(clean_text(message, MAX_MESSAGE))

    def warning(self, message: str) -> None:
        self.warnings.append(clean_text(message, MAX_MESSAGE))

    def fault(self, grave: bool, message: str) -> None:
        (self.problem if grave else self.warning)(message)

    def refused(self, file: str, reasons: pl.Series) -> None:
        for reason, count in reasons.drop_nulls().value_counts(sort=True).iter_rows():
            self.figures["refused"][f"{file}: {reason}"] = count


@dataclass(frozen=True)
class Sheet:
    """One table: its file, those of its columns that can be read, and the names of those that cannot."""

    kind: str
    path: Path
    table: TableFile
    columns: dict[str, ColumnSpec]
    missing: frozenset[str]

    @property
    def file(self) -> str:
        return self.table.file

    def at(self, line: int) -> str:
        """The place of a row."""
        return f"{self.file}, {'row' if self.table.format == 'parquet' else 'line'} {line}"

    def whole(self, rows: pl.LazyFrame, keys: Iterable[str]) -> pl.LazyFrame:
        """`rows` with empty ids where the file has none."""
        return rows.with_columns(pl.lit(None, pl.String).alias(key) for key in keys if key in self.missing)


def is_listed(path: Path, lake: Path) -> bool:
    """Whether `rallrec run` finds the file where it is."""
    return path.resolve().parent in ((lake / "catalog").resolve(), BUILT_IN.resolve())


@contextmanager
def linked_files(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> Iterator[Path]:
    """A lake for the readers that holds nothing but links to the real files: they write beside what they read."""
    base = lake if lake.is_dir() and os.access(lake, os.W_OK) else None
    with TemporaryDirectory(dir=base, prefix=".check-") as scratch:
        folder = raw_folder(Path(scratch), spec.name)
        folder.mkdir(parents=True)
        for file, real in _real_files(spec, path, lake, found):
            if file.sha256 and (digest := _digest(real)) != file.sha256:
                found.problem(f"{real} has SHA-256 {digest[:12]}…, not {file.sha256[:12]}…: correct sha256 or the file")
            (folder / file.name).symlink_to(real.resolve())
        yield Path(scratch)


def _real_files(spec: DatasetSpec, path: Path, lake: Path, found: Findings) -> list[tuple[SourceFile, Path]]:
    """Each file that is there and where it lies; the others are problems."""
    local = spec.source.kind == "folder"
    folder = Path(spec.source.location) if local else raw_folder(lake, spec.name)
    names = {file: file.path if local else file.name for file in spec.files}
    there = [(file, folder / name) for file, name in names.items() if os.path.isfile(folder / name)]
    lacking = ", ".join(name for name in names.values() if not os.path.isfile(folder / name))
    if lacking and not local:
        first = "" if is_listed(path, lake) else f"put {path.name} into {lake / 'catalog'} and "
        fetch = f"run `rallrec run {spec.name} --select raw_files`"
        found.problem(f"{folder} lacks {lacking}: not fetched yet, {first}{fetch}")
    elif lacking and not os.path.isdir(folder):
        found.problem(f"there is no folder {folder}: correct source.location")
    elif lacking:
        held = _names(sorted(os.listdir(folder)) if os.access(folder, os.R_OK | os.X_OK) else [])
        found.problem(f"the folder {folder} lacks {lacking} (it has {held}): correct source.location or the names")
    return there


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        return f"unknown ({error.strerror})"


@contextmanager
def telling(found: Findings, path: Path) -> Iterator[None]:
    """What a reader cannot read is a problem, told under the file's own name."""
    try:
        yield
    except DataError as error:
        found.problem(str(error).replace(str(path), path.name))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        found.problem(f"{path.name} cannot be read ({clean_text(str(error), 200)}): mend the file")


def open_sheet(spec: DatasetSpec, place: Path, table: TableFile, kind: str, found: Findings) -> Sheet | None:
    """A table as far as it can be read; None without a file, or when its bytes are of another kind."""
    path = raw_folder(place, spec.name) / table.file
    wanted = {"items": ("item_id", "title"), "users": ("user_id",)}.get(kind, ("user_id", "item_id"))
    if not path.is_file():
        return None
    with telling(found, path):
        if not _is_text_or_parquet(path, table, kind, found):
            return None
        columns = mapped_columns(table, wanted)
        missing = unclear_columns(path, table, columns)
        if missing:
            found.problem(_missing(path, table, kind, {name: columns[name].column for name in missing}))
        broken = [*missing, *_broken_rules(kind, table, columns, found)]
        sound = {name: column for name, column in columns.items() if name not in broken}
        return Sheet(kind, path, table, sound, frozenset(broken)) if sound else None
    return None


def _is_text_or_parquet(path: Path, table: TableFile, kind: str, found: Findings) -> bool:
    """Whether the bytes are of the format that is said; an encoding that does not fit is told, and borne."""
    with path.open("rb") as stream:
        start = stream.read(4)
    is_parquet = table.format == "parquet"
    other = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if other and not (is_parquet and other == "Parquet"):
        mend = f'set {kind}.format = "parquet"' if other == "Parquet" else "unpack it"
        found.problem(f"{path.name} is {other}, not {table.format}: {mend}, or correct {kind}.file")
        return False
    if is_parquet:
        return True
    _check_encoding(path, table, kind, start, found)
    return True


def _check_encoding(path: Path, table: TableFile, kind: str, start: bytes, found: Findings) -> None:
    if start.startswith(MARKS_16) and codecs.lookup(table.encoding).name != "utf-16":
        found.problem(f'{path.name} is UTF-16, not {table.encoding}: set {kind}.encoding = "utf-16"')
        return
    lines, bad, first = _unreadable_lines(path, table.encoding)
    if bad:
        share, guess = share_of(bad, lines, "lines"), _guess_encoding(path)
        other = f'set {kind}.encoding (it may be "{guess}")' if guess != table.encoding else "mend these lines"
        found.fault(
            bad > MANY_UNREADABLE * lines,
            f"{path.name}, line {first}: {share} hold bytes that {table.encoding} does not know: {other}",
        )


def _unreadable_lines(path: Path, encoding: str) -> tuple[int, int, int]:
    """(lines, those with bytes that the encoding does not know, number of the first of them)."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    lines, bad, first = 1, 0, 0
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            text = decoder.decode(chunk)
            if UNREADABLE in text:
                if not bad:
                    first = lines + text.partition(UNREADABLE)[0].count("\n")
                bad += sum(UNREADABLE in line for line in text.split("\n"))
            lines += text.count("\n")
    return lines, min(bad, lines), first


def _guess_encoding(path: Path) -> str:
    with path.open("rb") as source:
        start = source.read(CHUNK)
    for name in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(name)().decode(start)
        except UnicodeError:
            continue
        return name
    return "latin-1"


def _missing(path: Path, table: TableFile, kind: str, columns: Mapping[str, str]) -> str:
    names = column_names(path, table)
    wanted = ", ".join(f"{shown(column)} (for {name})" for name, column in columns.items())
    twice = any(names.count(column) > 1 for column in columns.values())
    lacks = "must have once" if twice else "has nothing in" if table.format == "json_lines" else "lacks"
    what = "field" if table.format == "json_lines" else "column"
    hint = _layout_hint(path, table, names) or f"mend {kind}.columns or the file"
    return f"{path.name} {lacks} the {what} {wanted}; it has {_names(names)}: {hint}"


def _layout_hint(path: Path, table: TableFile, names: Sequence[str]) -> str:
    """How the whole file may have to be read where its columns make no sense."""
    if table.format == "json_lines" and not names:
        with path.open("rb") as source:
            start = source.read(200).lstrip()
        return "write one JSON object per line, without an array around them" if start[:1] in b"[{" else ""
    if table.format != "csv" or table.header:
        return ""
    others = [mark for mark in ("\t", ";", "::", "|", ",") if len(names) == 1 and mark in names[0]]
    if others:
        return f"set separator = {json.dumps(others[0])}"
    if any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names):
        return "the first line looks like data, so name the columns with `header`"
    return ""


def _broken_rules(kind: str, table: TableFile, columns: Mapping[str, ColumnSpec], found: Findings) -> list[str]:
    """Columns whose rules cannot be run: regular expressions and time formats that polars does not know."""
    broken = []
    for name, column in columns.items():
        read = time_field if name == "timestamp" and kind == "interactions" else text_field
        try:
            pl.DataFrame({name: ["x"]}).select(read(name, column, table.empty))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = clean_text(str(error).partition("This error occurred")[0], 200)
            found.problem(f"{kind}.columns.{name}: its rules cannot be run ({reason}): correct them")
            broken.append(name)
    return broken


def share_of(part: int, total: int, what: str) -> str:
    """As in `3 of 200 rows (1.50%)`."""
    return f"{part:,} of {total:,} {what} ({part / max(1, total):.2%})"


def shown(text: str) -> str:
    """Text of a file in a message."""
    return repr(clean_text(text, MAX_VALUE))


def _names(names: Sequence[str]) -> str:
    first = ", ".join(shown(name) for name in names[:MAX_NAMES])
    return f"{first} and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else first or "nothing"


def examples_of(texts: pl.Series) -> str:
    """A few different ones of the first of `texts`."""
    values = texts.head(EXAMPLE_ROWS).fill_null("").unique(maintain_order=True).head(EXAMPLES)
    return ", ".join(shown(value) for value in values)


def among(lines: pl.Series) -> pl.Expr:
    """Whether a row is one of the first of `lines`."""
    return pl.col("line").is_in(lines.head(EXAMPLE_ROWS).implode())


def raw_rows(rows: pl.LazyFrame, lines: Sequence[pl.Series], columns: Iterable[str]) -> pl.DataFrame:
    """The texts of the first of each of `lines`."""
    wanted = pl.concat([pl.Series([], dtype=pl.Int64), *(part.head(EXAMPLE_ROWS) for part in lines)])
    return rows.filter(pl.col("line").is_in(wanted.implode())).select("line", *columns).collect().sort("line")
