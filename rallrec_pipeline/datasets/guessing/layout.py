"""How a file is laid out: format, encoding, separator, quotes and header, told by its first lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from rallrec_pipeline.datasets.documents import is_begun
from rallrec_pipeline.datasets.endings import Format, ending, format_of
from rallrec_pipeline.datasets.objects import object_of
from rallrec_pipeline.datasets.rows import EXCEL_LINE, TYPED
from rallrec_pipeline.datasets.unpacking import open_plain, packing_of
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.archives import BROKEN_ZIP
from rallrec_pipeline.sources.source import data_files

START = 1 << 22  # bytes that are looked at
LINES = 2000
AS_JSON = "write one JSON object per line, or one list of objects"
MOST_BEFORE = 20  # lines before a header
SEPARATORS = ("\t", ";", ",", "|", "::", " ")
MAGIC: dict[bytes, Format] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xd0\xcf\x11\xe0": "excel"}
WORKBOOK = ("[Content_Types].xml", "mimetype")  # members of the zip that an Excel or an OpenDocument file is
NUMBER = re.compile(r"\s*[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?\s*")
PEEK, PEEK_ZEROS = 1024, 0.3  # bytes that tell whether a text has two bytes a sign, and the share of zeros
MARKS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Layout:
    """What the first lines of a file tell. The settings of text are those of its table in the TOML file."""

    format: Format
    encoding: str = "utf-8"
    separator: str = ""
    quote: Literal['"', ""] = '"'
    escape: Literal["double", "backslash"] = "double"
    has_header: bool = True
    fields: int = 0
    """Of a delimited file, how many a line has; 0 where that cannot be told."""
    skip_lines: int = 0
    """Lines before the header."""
    fault: str = ""
    """Why no reader reads it so, and how to mend it; empty where one does."""


def layout_of(path: Path) -> Layout:
    """The layout of a file, or of the first one of a folder. Raises DataError where it cannot be read."""
    parts = data_files(path) if path.is_dir() else [path]
    if not parts:
        raise DataError(f"{path} holds no file")
    if found := binary_format(parts[0]):
        return Layout(found)
    with open_plain(parts[0]) as stream:
        start = stream.read(START)
    encoding = encoding_of(start)
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(start).removeprefix("\ufeff")
    raw = list(islice(text.replace("\r\n", "\n").split("\n"), LINES))
    lines = [line for line in raw if line.strip()]
    if len(start) == START and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    if not lines:
        return Layout("csv", encoding, fault="it is empty")
    if lines[0].lstrip()[:1] in ("{", "["):
        return _json(lines, encoding)
    layout = _delimited(lines, encoding)
    before = _before_header(lines, layout)
    if not before:
        return layout
    return replace(_delimited(lines[before:], encoding), skip_lines=raw.index(lines[before - 1]) + 1)


def binary_format(path: Path) -> Format | None:
    """The format of a file that is no text, by its first bytes."""
    if packing_of(path) == "zip" and set(WORKBOOK) & set(_members(path)):
        return "excel"
    with open_plain(path) as stream:
        start = stream.read(8)
    return next((found for magic, found in MAGIC.items() if start.startswith(magic)), None)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as packed:
            return packed.namelist()
    except BROKEN_ZIP:
        return []


def encoding_of(start: bytes) -> str:
    """The encoding of a text by its first bytes."""
    if start.startswith(MARKS_16):
        return "utf-16"
    zeros = [start[place:PEEK:2].count(0) for place in (0, 1)]  # a mark may be missing: of most signs one byte is 0
    if max(zeros) > PEEK_ZEROS * len(start[:PEEK]):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    for name in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(name)().decode(start)
        except UnicodeError:
            continue
        return name
    return "latin-1"


def cut(lines: list[str], layout: Layout) -> list[list[str]]:
    """The fields of each line, as the readers cut them; a record of several lines is taken line by line."""
    if not layout.quote or len(layout.separator) != 1:
        return [line.split(layout.separator) for line in lines]
    backslash = layout.escape == "backslash"
    reader = csv.reader(
        io.StringIO("\n".join(lines)), delimiter=layout.separator, doublequote=not backslash,
        escapechar="\\" if backslash else None, skipinitialspace=layout.separator != " ",
    )  # fmt: skip
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error:
        return rows or [line.split(layout.separator) for line in lines]
    return rows


def settings_of(layout: Layout, file: str) -> dict[str, str | int]:
    """What must be set in the table of `file`, because its name tells something else."""
    told = format_of(file)
    found: dict[str, str | int] = {} if told == layout.format else {"format": str(layout.format)}
    if layout.skip_lines:
        found["skip_lines"] = layout.skip_lines
    if layout.format not in ("csv", "atomic"):
        return found | ({"encoding": layout.encoding} if layout.encoding != "utf-8" else {})
    default = "\t" if layout.format == "atomic" or ending(file) in (".tsv", ".tab", ".data") else ","
    if layout.separator != default and layout.format == "csv":
        found["separator"] = layout.separator
    if layout.format == "csv" and layout.quote == "":
        found["quote"] = ""
    if layout.escape != "double":
        found["escape"] = layout.escape
    return found | ({"encoding": layout.encoding} if layout.encoding != "utf-8" else {})


def _json(lines: list[str], encoding: str) -> Layout:
    good = sum(object_of(line) is not None for line in lines[:100])
    is_read = good > len(lines[:100]) / 2 or is_begun("\n".join(lines[:2]))
    fault = "" if is_read else AS_JSON
    return Layout("json_lines", encoding, fault=fault)


def _delimited(lines: list[str], encoding: str) -> Layout:
    typed = next((mark for mark in SEPARATORS if _is_typed(lines[0].split(mark))), None)
    if typed is not None:
        return Layout("atomic", encoding, typed, quote="", fields=len(lines[0].split(typed)))
    told = EXCEL_LINE.fullmatch(lines[0].strip())
    lines = lines[1:] if told else lines
    backslash = any(re.search(r'[^\\]\\"', line) for line in lines) and '""' not in "".join(lines)
    escape: Literal["double", "backslash"] = "backslash" if backslash else "double"
    marks = [told[1]] if told else SEPARATORS
    quotes: list[Literal['"', ""]] = ['"', ""] if any('"' in line for line in lines) else ['"']
    bare: list[Literal['"', ""]] = [""]
    tried = [
        Layout("csv", encoding, mark, quote, escape if quote else "double")
        for mark in marks
        for quote in (quotes if len(mark) == 1 else quotes[1:] or bare)
    ]
    best, fields = max(((one, *_regular(lines, one)) for one in tried), key=lambda found: found[1])[0::2]
    if fields < 2:
        return Layout("csv", encoding, ",", has_header=_has_header([[line] for line in lines]), fields=1)
    separator = "," if told else best.separator  # what the line tells, the reader reads there
    header = _has_header(cut(lines, best))
    return Layout("csv", encoding, separator, best.quote, best.escape, header, fields)


def _before_header(lines: list[str], layout: Layout) -> int:
    """How many lines stand before the header: those before the first that is cut as most are, where there are few."""
    if layout.fields < 2 or EXCEL_LINE.fullmatch(lines[0].strip()):
        return 0
    widths = [len(row) for row in cut(lines[: MOST_BEFORE + 2], layout)]
    first = next((place for place, width in enumerate(widths) if width == layout.fields), 0)
    return first if first <= MOST_BEFORE else 0


def _is_typed(names: list[str]) -> bool:
    return len(names) > 1 and all(TYPED.fullmatch(name.strip()) for name in names)


def _regular(lines: list[str], layout: Layout) -> tuple[tuple[float, int, bool], int]:
    """How regular the lines are when they are cut so: to compare, and the number of fields of most of them.

    Quotes that lose lines, because two of them make one record, are worse than none.
    """
    rows = [row for row in cut(lines, layout) if row]
    if not rows:
        return (0.0, 0, False), 0
    fields, count = Counter(map(len, rows)).most_common(1)[0]
    share = count / max(len(rows), len(lines)) if layout.separator == "\t" else count / len(rows)
    if len(rows[0]) != fields:
        share -= 0.5  # the header, or the first line of all, is cut otherwise than the rest
    if layout.separator == " ":
        share -= 0.05  # blanks stand within text as well
    return (round(share, 2) if fields > 1 else 0.0, min(fields, 50), layout.quote == '"'), fields


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: no number among them, but below; or no name comes again."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if any(NUMBER.fullmatch(value) for value in first):
        return False
    if not below:
        return True
    filled = [value for value in first if value.strip()]
    numeric = any(all(NUMBER.fullmatch(row[place]) or not row[place] for row in below) for place in range(len(first)))
    return numeric or len(set(filled)) == len(first)
