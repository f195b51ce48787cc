"""Whether the bytes of a file are what its table says: text of an encoding, or Parquet."""

from __future__ import annotations

import codecs
from pathlib import Path

from rallrec_pipeline.datasets.checking.findings import Findings, share_of
from rallrec_pipeline.datasets.spec import TableFile

MANY_UNREADABLE = 0.01  # share of lines from which an encoding is wrong, not a line
CHUNK = 1 << 22  # bytes
MARKED = "rallrec-marked"  # name of the handling of bytes that an encoding does not know
UNREADABLE = "\udcff"  # in their place; no encoding gives it, while a file may hold U+FFFD itself
MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip", b"PAR1": "Parquet"}
MARKS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return UNREADABLE, error.end
    raise error


codecs.register_error(MARKED, _mark)


def is_of_its_format(path: Path, table: TableFile, kind: str, found: Findings) -> bool:
    """Whether the bytes are of the format that is said; an encoding that does not fit is told, and borne."""
    with path.open("rb") as stream:
        start = stream.read(4)
    is_parquet = table.format == "parquet"
    other = next((name for magic, name in MAGIC.items() if start.startswith(magic)), None)
    if other and not (is_parquet and other == "Parquet"):
        mend = f'set {kind}.format = "parquet"' if other == "Parquet" else "unpack it"
        found.problem(f"{path.name} is {other}, not {table.format}: {mend}, or correct {kind}.file")
        return False
    if not is_parquet:
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
    decoder = codecs.getincrementaldecoder(encoding)(errors=MARKED)
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
