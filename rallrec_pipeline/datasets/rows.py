"""One raw file as rows of text columns, whatever its format; a row that is no record is handed back with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.delimited import Dialect, header_fields, split_fields
from rallrec_pipeline.datasets.documents import MOST as DOCUMENT
from rallrec_pipeline.datasets.endings import BINARY
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.frames import IDS, WRITTEN, names_of, open_frame, reached, schema_of, text_columns
from rallrec_pipeline.datasets.json_lines import BEGINS_AT, keys_of, open_objects, split_objects
from rallrec_pipeline.datasets.lines import HEAD, Text, first_line, open_lines, open_text
from rallrec_pipeline.datasets.tables import REFUSED
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.source import data_files
from rallrec_pipeline.text import clean_text

Rows = tuple[pl.LazyFrame, pl.DataFrame]
"""(`line`, `text` and one text column per canonical name, refused rows)."""

FIRST_LINES = 10_000  # of a JSON file, searched for its keys; the others only for keys that these lack
FIRST_ROWS = 1000  # that tell how ids are written
PADDED_LINES = 50  # that tell whether blanks follow separators
WHERE = "\x1fwhere "  # before a place: a column that only chooses rows
DECIMAL_ID = r"^(-?\d+)\.0+$"
TYPED = re.compile(r"[^\s:]+:(token|float|token_seq|float_seq)")  # a name in the header of an atomic file
EXCEL_LINE = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # first line of a CSV file of Excel
ATOMIC_SEPARATORS = " ,;|"


@contextmanager
def open_rows(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec], most: float = inf) -> Iterator[Rows]:
    """The file as text columns, named as `columns` says, without the rows that `where` leaves out.

    Of text about `most` characters are read.

    Ids that all are written as 12.0 are whole numbers: they lose the zero; the column WRITTEN has them as they were.
    Raises DataError when a column is missing, and for a fault that shows only when the rows are collected.
    """
    chosen = {f"{WHERE}{place}": ColumnSpec(column=name) for place, name in enumerate(table.where)}
    try:
        with _opened(path, table, {**columns, **chosen}, most) as (rows, refused):
            for name, wanted in zip(chosen, table.where.values(), strict=True):
                rows = rows.filter(pl.col(name).str.strip_chars().is_in(list(wanted)))
            yield _whole_ids(rows.drop(list(chosen)), columns), refused
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a broken page, a rule Rust lacks
        reason = clean_text(str(error), 200)
        raise DataError(f"{path} cannot be read ({reason}): mend the file or the rules in `columns`") from error


def rows_left_out(path: Path, table: TableFile) -> int:
    """How many records `where` leaves out. Raises DataError as `open_rows`."""
    if not table.where:
        return 0
    columns = {f"{WHERE}{place}": ColumnSpec(column=name) for place, name in enumerate(table.where)}
    with open_rows(path, table.model_copy(update={"where": {}}), columns) as (rows, _):
        kept = pl.all_horizontal(
            pl.col(name).fill_null("").str.strip_chars().is_in(list(wanted))
            for name, wanted in zip(columns, table.where.values(), strict=True)
        )
        return int(rows.select((~kept).sum()).collect(engine="streaming").item())


def column_names(path: Path, table: TableFile) -> list[str]:
    """Names of the columns that the file itself has. Raises DataError when it cannot be read."""
    if table.format in BINARY:
        with open_frame(path, table.format) as frame:
            return names_of(schema_of(frame))
    most = DOCUMENT if table.format == "json_lines" else HEAD
    with open_lines(path, table.encoding, path.parent, _has_header(table), most) as lines:
        if table.format == "json_lines":
            with open_objects(lines, path.parent) as objects:
                return [*keys_of(objects), *_hive(path)]
        return [*_header(lines, path, table)[1], *_hive(path)]


def unclear_columns(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> list[str]:
    """Names among `columns` whose column the file does not have, or not once. Raises DataError as `column_names`."""
    if table.format in BINARY:
        with open_frame(path, table.format) as frame:
            schema = schema_of(frame)
            return [name for name, column in columns.items() if reached(schema, column.column) is None]
    if table.format == "json_lines":
        with open_lines(path, table.encoding, path.parent) as lines, open_objects(lines, path.parent) as objects:
            names = [*_present_keys(objects, columns), *_hive(path)]
    else:
        names = column_names(path, table)
    return [name for name, column in columns.items() if names.count(column.column) != 1]


@contextmanager
def _opened(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec], most: float) -> Iterator[Rows]:
    if table.format in BINARY:
        with open_frame(path, table.format) as frame:
            schema = schema_of(frame)
            lacking = [column.column for column in columns.values() if reached(schema, column.column) is None]
            _need(path, lacking, names_of(schema))
            yield text_columns(frame, columns), pl.DataFrame(schema=REFUSED)
        return
    hive = _hive(path)
    own = {name: column for name, column in columns.items() if column.column not in hive}
    parts = {name: hive[column.column] for name, column in columns.items() if column.column in hive}
    with open_text(path, table.encoding, path.parent, _has_header(table), most) as text:
        if table.format == "json_lines":
            with open_objects(text.lines, path.parent) as objects:
                _need(path, *_lacking(_present_keys(objects, own), own))
                rows, refused = split_objects(objects, {name: column.column for name, column in own.items()})
                yield _with_parts(rows, parts, text.starts, BEGINS_AT).drop(BEGINS_AT), refused
        else:
            rows, refused = _delimited_rows(text, path, table, own)
            yield _with_parts(rows, parts, text.starts, "line"), refused


def _has_header(table: TableFile) -> bool:
    return table.format != "json_lines" and not table.header


def _hive(path: Path) -> dict[str, list[str]]:
    """Columns that folders `key=value` make of a table in parts: the value of each part."""
    if not path.is_dir():
        return {}
    pairs = [
        dict(name.split("=", 1) for name in part.relative_to(path).parent.parts if "=" in name)
        for part in data_files(path)
    ]
    names = dict.fromkeys(name for found in pairs for name in found)
    return {name: [found.get(name, "") for found in pairs] for name in names}


def _with_parts(rows: pl.LazyFrame, columns: Mapping[str, list[str]], starts: list[int], at: str) -> pl.LazyFrame:
    """`rows` with the columns that tell of the part in which a row stands; each begins at one of the lines `starts`.

    A row begins in the line that the column `at` gives.
    """
    if not columns:
        return rows
    part = pl.lit(pl.Series(starts, dtype=pl.Int64)).search_sorted(pl.col(at), side="right") - 1
    return rows.with_columns(pl.lit(pl.Series(values)).gather(part).alias(name) for name, values in columns.items())


def _whole_ids(rows: pl.LazyFrame, columns: Mapping[str, ColumnSpec]) -> pl.LazyFrame:
    """`rows` with ids such as 12.0, which a column of numbers with gaps makes of whole ones, as 12."""
    ids = [name for name in IDS if name in columns]
    first = rows.select(ids).head(FIRST_ROWS).collect() if ids else pl.DataFrame()
    for name in ids:
        known = first[name].drop_nulls().str.strip_chars()
        known = known.filter(known != "")
        if known.len() and known.str.contains(DECIMAL_ID).all():
            whole = pl.col(name).str.strip_chars().str.replace(DECIMAL_ID, "$1")
            rows = rows.with_columns(pl.col(name).alias(WRITTEN + name), whole.alias(name))
    return rows


def _delimited_rows(text: Text, path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> Rows:
    last, names, dialect = _header(text.lines, path, table)
    _need(path, *_lacking(names, columns))
    places = {name: names.index(column.column) for name, column in columns.items()}
    if not text.has_quotes:
        dialect = replace(dialect, quote="")  # half the time: nothing has to be looked for
    return split_fields(text.lines.filter(pl.col("line") > last), dialect, len(names), places)


def _header(lines: pl.LazyFrame, path: Path, table: TableFile) -> tuple[int, list[str], Dialect]:
    """The number of the last line before the data, 0 where there is none, the names, and how fields are written.

    A first line `sep=;`, as Excel writes it, tells the separator; so does the header of an atomic file.
    """
    dialect = Dialect.of(table)
    last = table.skip_lines
    line, text = first_line(lines.filter(pl.col("line") > last))
    if table.format == "csv" and (told := EXCEL_LINE.fullmatch(text.strip())):
        dialect = replace(dialect, separator=told[1])
        last = line
        line, text = first_line(lines.filter(pl.col("line") > line))
    if dialect.quote and dialect.separator.strip(" "):
        gap = rf"{re.escape(dialect.separator)} +{dialect.quote}"
        dialect = replace(dialect, padded=bool(lines.head(PADDED_LINES).collect()["text"].str.contains(gap).any()))
    if table.header:
        return last, list(table.header), dialect
    if not line:
        raise DataError(f"{path} is empty or has no header: fetch the file again")
    if table.format == "atomic" and dialect.separator not in text:
        others = [mark for mark in ATOMIC_SEPARATORS if _is_typed(text.split(mark))]
        dialect = replace(dialect, separator=(others or [dialect.separator])[0])
    names = header_fields(text, dialect)
    return line, [_name(name) for name in names] if table.format == "atomic" else names, dialect


def _name(name: str) -> str:
    """The name in `name:type`."""
    return name.rpartition(":")[0].strip() if TYPED.fullmatch(name.strip()) else name.strip()


def _is_typed(names: list[str]) -> bool:
    return len(names) > 1 and all(TYPED.fullmatch(name) for name in names)


def _present_keys(objects: pl.LazyFrame, columns: Mapping[str, ColumnSpec]) -> list[str]:
    """Of `columns` those that any line has, which the first lines mostly tell; in a file without lines all of them."""
    wanted = list(dict.fromkeys(column.column for column in columns.values()))
    first = objects.head(FIRST_LINES)
    if first.collect().is_empty():
        return wanted
    found = _keys_among(first, wanted)
    rare = [name for name in wanted if name not in found]
    return [*found, *_keys_among(objects, rare)] if rare else found


def _keys_among(objects: pl.LazyFrame, wanted: list[str]) -> list[str]:
    names = {f"column {i}": column for i, column in enumerate(wanted)}
    found, _ = split_objects(objects, names)
    counts = found.select(pl.col(name).count() for name in names).collect(engine="streaming").row(0)
    return [column for column, count in zip(wanted, counts, strict=True) if count]


def _lacking(names: list[str], columns: Mapping[str, ColumnSpec]) -> tuple[list[str], list[str]]:
    return [column.column for column in columns.values() if names.count(column.column) != 1], names


def _need(path: Path, lacking: list[str], names: list[str]) -> None:
    if lacking:
        found = clean_text(", ".join(names)) or "nothing"
        raise DataError(
            f"{path}: the header must have {', '.join(lacking)} once; it has {found}: mend the file or `columns`"
        )
