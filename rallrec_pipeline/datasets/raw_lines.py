"""Where an id stands in a raw file, by the dataset's own reader, so that quotes and line numbers are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.fields import id_field
from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.readers import mapped_columns, raw_file
from rallrec_pipeline.datasets.rows import open_rows
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DataError

SHOWN = 3  # records whose text is kept
MAX_TEXT = 4000  # characters of it


@dataclass(frozen=True)
class RawLine:
    """One record of a raw file: the number of its first line (of its row in Parquet), from 1, and its text."""

    line: int
    text: str


@dataclass(frozen=True)
class RawLines:
    """The records of a raw file that name an id: how many there are, and the first few."""

    file: str
    unit: Literal["line", "row"]
    count: int
    first: list[RawLine]


def find_lines(spec: DatasetSpec, lake: Path, table: TableFile, key: str, value: str) -> RawLines:
    """The records of the table's raw file whose id `key` is `value`.

    Of a Parquet file, which has no lines, the text is that of the mapped columns. Raises DataError when the file is
    missing or cannot be read as its table says.
    """
    path = raw_file(spec, lake, table)
    try:
        columns = mapped_columns(table, (key,))
        with _with_scratch(path) as place, open_rows(place, table, columns) as (rows, _):
            named = rows.filter(id_field(key, columns[key], table.empty) == value).select("line", "text")
            found = named.collect(engine="streaming").sort("line")
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}): mend its permissions") from error
    first = [RawLine(line, (text or "")[:MAX_TEXT]) for line, text in found.head(SHOWN).rows()]
    return RawLines(table.file, "row" if table.format in BINARY else "line", found.height, first)


@contextmanager
def _with_scratch(path: Path) -> Iterator[Path]:
    """`path`, or a link to it where its folder is not writable: the readers of text write beside what they read."""
    if os.access(path.parent, os.W_OK):
        yield path
        return
    with TemporaryDirectory(prefix="rallrec-") as scratch:
        link = Path(scratch) / path.name
        link.symlink_to(path.resolve())
        yield link
