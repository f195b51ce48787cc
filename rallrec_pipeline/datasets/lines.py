"""A text file of any encoding as a lazy table of its lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import polars as pl

from rallrec_pipeline.datasets.unpacking import open_plain
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import is_full_disk
from rallrec_pipeline.sources.source import data_files

CHUNK = 1 << 22  # bytes
HEAD = 1 << 25  # characters of a file that tell what it is
MARK = "\ufeff"
SEPARATORS = r"[,;\t|]"
QUOTE = '"'


@contextmanager
def open_lines(
    path: Path, encoding: str, scratch: Path, has_header: bool = False, most: float = inf
) -> Iterator[pl.LazyFrame]:
    """Lines of `path` with their numbers from 1: columns `line` (Int64) and `text`.

    Bytes that the encoding does not know become U+FFFD. Lines end in LF or CR LF; in a file without any LF, in CR.
    A packed file is unpacked. A folder is the lines of its files, one after the other by name; with `has_header` the
    first line of each may repeat the header, which is left blank. Of a file with more than `most` characters only
    about as many are read, whole lines as far as there are any.
    A copy in UTF-8 lies in `scratch` as long as the context is open. Raises DataError when the file cannot be read.
    """
    with open_text(path, encoding, scratch, has_header, most) as text:
        yield text.lines


@dataclass(frozen=True)
class Text:
    """`lines` (`line`, `text`), the number of the first line of each part, and whether a quotation mark occurs."""

    lines: pl.LazyFrame
    starts: list[int]
    has_quotes: bool


@contextmanager
def open_text(path: Path, encoding: str, scratch: Path, has_header: bool = False, most: float = inf) -> Iterator[Text]:
    """As `open_lines`, with what else is known of the file or of the files of a folder."""
    parts = data_files(path) if path.is_dir() else [path]
    with TemporaryDirectory(dir=scratch, prefix=".lines-") as folder:
        copy = Path(folder) / "lines.txt"
        try:
            starts, has_quotes = _to_utf8(parts, encoding, copy, has_header, most)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and is_full_disk(error):
                raise DataError(f"no space left to read {path}: free some disk space and run again") from error
            raise DataError(f"cannot read {path}: {error}") from error
        lines = pl.scan_lines(copy, name="text", row_index_name="line", row_index_offset=1, glob=False)
        yield Text(lines.with_columns(pl.col("line").cast(pl.Int64)), starts, has_quotes)


def first_line(lines: pl.LazyFrame) -> tuple[int, str]:
    """Number and text of the first line that is not blank; 0 and nothing where there is none."""
    first = lines.filter(pl.col("text").str.strip_chars() != "").head(1).select("line", "text").collect()
    return (int(first["line"][0]), str(first["text"][0])) if first.height else (0, "")


def decoded(stream: IO[bytes], encoding: str) -> Iterator[str]:
    """The text of a file, piece by piece, without a byte order mark; all line ends are LF or CR LF."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    chunk = stream.read(CHUNK)
    old_mac = b"\n" not in chunk and b"\r" in chunk
    start = True
    while chunk:
        text = decoder.decode(chunk)
        if start and text:
            text, start = text.removeprefix(MARK), False
        yield text.replace("\r", "\n") if old_mac else text
        chunk = stream.read(CHUNK)
    yield decoder.decode(b"", final=True)


def _up_to(most: float, texts: Iterator[str]) -> Iterator[str]:
    """About the first `most` characters of a text: the last piece ends with a line, if it holds the end of one."""
    for text in texts:
        if len(text) >= most:
            yield text[: text.rfind("\n", 0, int(most)) + 1] or text
            return
        most -= len(text)
        yield text


def _to_utf8(parts: Sequence[Path], encoding: str, copy: Path, has_header: bool, most: float) -> tuple[list[int], bool]:
    """Write the text of all `parts`, or `most` of it.

    Returns the number of the first line of each part, and whether a quotation mark occurs.
    """
    header, starts, line, has_quotes = "", list[int](), 1, False
    with copy.open("w", encoding="utf-8", errors="replace", newline="") as target:
        for part in parts:
            if target.tell() >= most:
                break
            starts.append(line)
            ends = True
            with open_plain(part) as source:
                texts = _up_to(most - target.tell(), decoded(source, encoding))
                if has_header and len(parts) > 1:
                    first = next(texts)
                    header = header or _first_of(first)
                    target.write(first := _without_header(first, header, part) if starts[1:] else first)
                    has_quotes |= QUOTE in first
                    line, ends = line + first.count("\n"), first.endswith("\n")
                for text in texts:
                    target.write(text)
                    has_quotes = has_quotes or QUOTE in text
                    if text and len(parts) > 1:
                        line, ends = line + text.count("\n"), text.endswith("\n")
            if not ends and part is not parts[-1]:
                target.write("\n")
                line += 1
    return starts, has_quotes


def _first_of(text: str) -> str:
    return next((line.strip("\r") for line in text.split("\n") if line.strip()), "")


def _without_header(text: str, header: str, part: Path) -> str:
    """`text` with a blank line where it repeats the `header`."""
    first = _first_of(text)
    if first == header:
        return text.replace(header, "", 1)
    names = [sorted(name.strip(' "') for name in re.split(SEPARATORS, line)) for line in (first, header)]
    if names[0] == names[1]:
        raise DataError(f"{part} has the columns of the other parts in another order: write them all in one order")
    if len(set(names[0]) & set(names[1])) > len(names[0]) / 2:
        raise DataError(f"{part} has other columns than the parts before it: write them all with the same ones")
    return text
