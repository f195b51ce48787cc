"""A raw file, or each part of one, written again without some of its records; all other bytes of a text stay.

A JSON document is counted in records and not in lines, over all parts: it becomes one record a line, in every part.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import polars as pl

from rallrec_pipeline.datasets.documents import objects_in_a_row
from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.json_lines import records_of_document
from rallrec_pipeline.datasets.lines import CHUNK, open_text
from rallrec_pipeline.datasets.probe import require_decodable
from rallrec_pipeline.datasets.unpacking import open_plain, packing_of, plain_file
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.tombstones import Tombstones
from rallrec_pipeline.sources.source import data_files

PACKERS: dict[str, Any] = {
    "gzip": lambda target, mode: gzip.GzipFile("", mode, fileobj=target, mtime=0),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
"""What is packed otherwise becomes a plain file, which readers know by its first bytes."""
ENDLESS = 1 << 62


def stage_parts(
    path: Path, table: TableFile, user_column: str, rows: pl.DataFrame, stones: Tombstones, staged: Path
) -> None:
    """Write to `staged` what is left of the file or the parts at `path` without `rows`; of other parts links.

    `rows` has `line` and `lines` of records, over all parts. A part that lies in a folder of a forgotten user, as
    `user=12`, goes with its folder. Raises DataError where nobody can say in which part a record lies.
    """
    dropped = set(_lines(rows))
    if records := _document(path, table):
        end = 0
        for part, held in _by_part(path, table, records).items():
            start, end = end + 1, end + len(held)
            if path.is_dir() and _is_theirs(part.relative_to(path), user_column, stones):
                continue
            kept = [record for number, record in enumerate(held, start) if number not in dropped]
            _write_lines(part, _new(part, path, staged), kept, table.encoding)
        return
    parts = _parts(path)
    for part, (first, last) in zip(parts, _spans(path, parts, table), strict=True):
        own = {line - first + 1 for line in dropped if first <= line <= last}
        new = _new(part, path, staged)
        if path.is_dir() and _is_theirs(part.relative_to(path), user_column, stones):
            continue
        if own and table.format in BINARY:
            _rewrite_frame(part, new, table, own)
        elif own:
            _rewrite_text(part, new, table, own)
        else:
            new.symlink_to(part.absolute())


def put_in_place(path: Path, staged: Path) -> None:
    """Give what was staged the names of the parts that it was made from; a part that was not staged goes.

    The last part is the first: pretty objects before others are read as long as the first part has them.
    """
    for part in reversed(_parts(path)):
        new = _new(part, path, staged)
        if not new.exists():
            _remove(part, path)
        elif not new.is_symlink():
            with atomic_path(part) as temporary:
                new.replace(temporary)


def has_data(path: Path) -> bool:
    """Whether there is a file, or any part."""
    return path.exists() and bool(_parts(path))


def _parts(path: Path) -> list[Path]:
    return data_files(path) if path.is_dir() else [path]


def _new(part: Path, path: Path, staged: Path) -> Path:
    new = staged / part.relative_to(path) if path.is_dir() else staged
    new.parent.mkdir(parents=True, exist_ok=True)
    return new


def _lines(rows: pl.DataFrame) -> list[int]:
    return [line + more for line, count in rows.select("line", "lines").iter_rows() for more in range(count)]


def _spans(path: Path, parts: list[Path], table: TableFile) -> list[tuple[int, int]]:
    """The first and the last line of each part, as the reader counts them."""
    if not path.is_dir():
        return [(1, ENDLESS)]
    if table.format in BINARY:
        ends = pl.Series([_scan(part, table).select(pl.len()).collect().item() for part in parts]).cum_sum().to_list()
        return list(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))
    has_header = table.format != "json_lines" and not table.header
    with open_text(path, table.encoding, path.parent, has_header) as text:
        ends = [*(start - 1 for start in text.starts[1:]), ENDLESS]
        return list(zip(text.starts, ends, strict=True))


def _scan(part: Path, table: TableFile) -> pl.LazyFrame:
    try:
        require_decodable(part, "arrow" if table.format == "arrow" else "parquet")
    except (ValueError, OSError) as error:
        raise DataError(f"{part} cannot be read: {error}") from error
    options: dict[str, Any] = {"glob": False, "hive_partitioning": False}
    return pl.scan_ipc(part, **options) if table.format == "arrow" else pl.scan_parquet(part, **options)


def _rewrite_frame(part: Path, new: Path, table: TableFile, dropped: Collection[int]) -> None:
    with plain_file(part, part.parent) as plain:
        frame = _scan(plain, table).collect()
    kept = frame.filter(~pl.int_range(1, pl.len() + 1).is_in(list(dropped)))
    if table.format == "arrow":
        kept.write_ipc(new, compression="zstd")
    else:
        kept.write_parquet(new, compression="zstd")


def _rewrite_text(part: Path, new: Path, table: TableFile, dropped: Collection[int]) -> None:
    encoding = table.encoding
    with open_plain(part) as source, _packed_as(part, new) as target:
        if "\n".encode(encoding) == b"\n":
            for number, line in enumerate(_byte_lines(source), 1):
                if number not in dropped:
                    target.write(line)
        else:  # of UTF-16 and its kin a byte says nothing
            target.write(_without(source.read(), encoding, dropped, part))


def _write_lines(part: Path, new: Path, records: list[str], encoding: str) -> None:
    """Records of a document, one a line: by itself none is a line there."""
    with _packed_as(part, new) as target:
        target.write("".join(f"{record.replace(chr(10), ' ')}\n" for record in records).encode(encoding))


@contextmanager
def _packed_as(part: Path, new: Path) -> Iterator[IO[bytes]]:
    """`new`, which packs what is written as `part` is packed."""
    pack = PACKERS.get(packing_of(part), lambda target, mode: nullcontext(target))
    with new.open("wb") as plain, pack(plain, "wb") as target:
        yield target


def _document(path: Path, table: TableFile) -> list[str]:
    """The records of the JSON document that a file is, or all parts together; none where they are none."""
    if table.format != "json_lines":
        return []
    with open_text(path, table.encoding, path.parent) as text:
        return records_of_document(text.lines)["text"].to_list()


def _by_part(path: Path, table: TableFile, records: list[str]) -> dict[Path, list[str]]:
    """The records of a document by the part that holds them. Raises DataError where one may be of several."""
    texts = dict[Path, str]()
    for part in _parts(path):
        with open_text(part, table.encoding, path.parent) as text:
            texts[part] = "\n".join(text.lines.collect().sort("line")["text"])
    filled = [part for part, content in texts.items() if content.strip()]
    found = {part: objects_in_a_row(texts[part]) for part in filled} if len(filled) > 1 else {filled[0]: records}
    if [record for own in found.values() for record in own] != records:
        raise DataError(f"{path}: nobody can say which part holds which record: write each as JSON lines, then go on")
    return found


def _without(content: bytes, encoding: str, dropped: Collection[int], part: Path) -> bytes:
    try:
        lines = enumerate(re.findall(r"[^\n]*\n|[^\n]+", content.decode(encoding)), 1)
        return "".join(line for number, line in lines if number not in dropped).encode(encoding)
    except UnicodeError as error:
        raise DataError(f"{part} cannot be written again in {encoding!r} ({error}): save it as UTF-8") from error


def _byte_lines(source: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file with their ends, in which a byte is what ASCII says."""
    start = source.read(CHUNK)
    if b"\n" not in start and b"\r" in start:  # as the reader decides it
        yield from re.findall(rb"[^\r\n]*[\r\n]|[^\r\n]+", start + source.read())
        return
    rest = b""
    while start:
        *lines, rest = (rest + start).split(b"\n")
        yield from (line + b"\n" for line in lines)
        start = source.read(CHUNK)
    if rest:
        yield rest


def _is_theirs(place: Path, user_column: str, stones: Tombstones) -> bool:
    pairs = (name.split("=", 1) for name in place.parent.parts if "=" in name)
    return any(key == user_column and bool(stones.among([value])) for key, value in pairs)


def _remove(part: Path, top: Path) -> None:
    part.unlink()
    for folder in part.parents:
        if folder == top or any(folder.iterdir()):
            return
        folder.rmdir()
