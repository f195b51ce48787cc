"""What the ending of a file's name says: its format, and how it is packed."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

Format = Literal["csv", "atomic", "json_lines", "parquet", "arrow", "excel"]

SUFFIX_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".txt": "csv",
    ".inter": "atomic",
    ".item": "atomic",
    ".user": "atomic",
    ".json": "json_lines",
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "arrow",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xls": "excel",
    ".ods": "excel",
}
TABS = (".tsv", ".tab", ".data")
PACKED = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2", ".zip", ".tar", ".tgz", ".tbz2", ".txz")
BINARY: tuple[Format, ...] = ("parquet", "arrow", "excel")  # no text: without lines, encoding and separator
FORMATS = 'csv", "json_lines", "atomic", "parquet", "arrow" or "excel'


def ending(file: str) -> str:
    """The ending that says what is in a file: of `ratings.csv.gz` it is `.csv`, of `all.zip` nothing."""
    path = PurePosixPath(file.lower())
    while path.suffix in PACKED:
        path = path.with_suffix("")
    return path.suffix


def format_of(file: str) -> Format | None:
    """The format that the name tells; an archive without another ending holds CSV, as most do."""
    found = ending(file)
    return SUFFIX_FORMATS.get(found) or ("csv" if not found and file.lower().endswith(PACKED) else None)
