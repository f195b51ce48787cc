"""Whether the bytes of a file are what its table says: text of an encoding, or a format of its own."""

from __future__ import annotations

import codecs
from pathlib import Path

from rallrec_pipeline.datasets.checking.findings import Findings, share_of
from rallrec_pipeline.datasets.endings import BINARY, Format
from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.frames import NAMES
from rallrec_pipeline.datasets.guessing.layout import PEEK, binary_format, encoding_of
from rallrec_pipeline.datasets.unpacking import open_plain
from rallrec_pipeline.sources.source import data_files

MANY_UNREADABLE = 0.01  # share of lines from which an encoding is wrong, not a line
CHUNK = 1 << 22  # bytes
MARKED = "rallrec-marked"  # name of the handling of bytes that an encoding does not know
UNREADABLE = "\udcff"  # in their place; no encoding gives it, while a file may hold U+FFFD itself


def _mark(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return UNREADABLE, error.end
    raise error


codecs.register_error(MARKED, _mark)


def is_of_its_format(path: Path, table: TableFile, kind: str, found: Findings) -> bool:
    """Whether the bytes are of the format that is said; an encoding that does not fit is told, and borne."""
    parts = data_files(path) if path.is_dir() else [path]
    for part in parts:
        other = _other_format(part, table)
        if other:
            mend = f'set {kind}.format = "{other[0]}"'
            found.problem(f"{part.name} is {other[1]}, not {table.format}: {mend}, or correct {kind}.file")
            return False
        if table.format not in BINARY:
            try:
                _check_encoding(part, table, kind, _start(part), found)
            except UnicodeError as error:  # UTF-16 and UTF-32 must say by a mark at the start which they are
                found.problem(
                    f'{part.name} is not {table.encoding} ({error}): set {kind}.encoding, as to "utf-16-le" or "utf-8"'
                )
                return False
    return True


def _other_format(path: Path, table: TableFile) -> tuple[Format, str] | None:
    """Another format than that of the table, if the first bytes are of one, and what it is called."""
    if table.format == "excel":
        return None  # the reader of workbooks knows a dozen kinds
    other = binary_format(path)
    return None if other is None or other == table.format else (other, NAMES[other])


def _start(path: Path) -> bytes:
    with open_plain(path) as stream:
        return stream.read(PEEK)


def _check_encoding(path: Path, table: TableFile, kind: str, start: bytes, found: Findings) -> None:
    wide = encoding_of(start)
    if wide.startswith("utf-16") and not codecs.lookup(table.encoding).name.startswith("utf-16"):
        found.problem(f'{path.name} is UTF-16, not {table.encoding}: set {kind}.encoding = "{wide}"')
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
    decoder = codecs.getincrementaldecoder(encoding)(errors=MARKED)
    lines, bad, first = 1, 0, 0
    with open_plain(path) as source:
        while chunk := source.read(CHUNK):
            text = decoder.decode(chunk)
            if UNREADABLE in text:
                if not bad:
                    first = lines + text.partition(UNREADABLE)[0].count("\n")
                bad += sum(UNREADABLE in line for line in text.split("\n"))
            lines += text.count("\n")
    return lines, min(bad, lines), first


def _guess_encoding(path: Path) -> str:
    with open_plain(path) as source:
        return encoding_of(source.read(CHUNK))
