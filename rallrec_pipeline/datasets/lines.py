"""A text file of any encoding as a lazy table of its lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import is_full_disk

CHUNK = 1 << 22  # bytes
MARK = "\ufeff"


@contextmanager
def open_lines(path: Path, encoding: str, scratch: Path) -> Iterator[pl.LazyFrame]:
    """Lines of `path` with their numbers from 1: columns `line` (Int64) and `text`.

    Bytes that the encoding does not know become U+FFFD. Lines end in LF or CR LF; in a file without any LF, in CR.
    A copy in UTF-8 lies in `scratch` as long as the context is open. Raises DataError when the file cannot be read.
    """
    with TemporaryDirectory(dir=scratch, prefix=".lines-") as folder:
        copy = Path(folder) / "lines.txt"
        try:
            _to_utf8(path, encoding, copy)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and is_full_disk(error):
                raise DataError(f"no space left to read {path}: free some disk space and run again") from error
            raise DataError(f"cannot read {path}: {error}") from error
        lines = pl.scan_lines(copy, name="text", row_index_name="line", row_index_offset=1, glob=False)
        yield lines.with_columns(pl.col("line").cast(pl.Int64))


def first_line(lines: pl.LazyFrame) -> tuple[int, str]:
    """Number and text of the first line that is not blank; 0 and nothing where there is none."""
    first = lines.filter(pl.col("text").str.strip_chars() != "").head(1).select("line", "text").collect()
    return (int(first["line"][0]), str(first["text"][0])) if first.height else (0, "")


def _to_utf8(path: Path, encoding: str, copy: Path) -> None:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    with path.open("rb") as source, copy.open("w", encoding="utf-8", errors="replace", newline="") as target:
        chunk = source.read(CHUNK)
        old_mac = b"\n" not in chunk and b"\r" in chunk
        start = True
        while chunk:
            text = decoder.decode(chunk)
            if start and text:
                text, start = text.removeprefix(MARK), False
            target.write(text.replace("\r", "\n") if old_mac else text)
            chunk = source.read(CHUNK)
        target.write(decoder.decode(b"", final=True))
