"""Files whose columns have types, Parquet and its kin, as columns of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.datatypes import DataTypeClass
from polars.selectors import by_name

from rallrec_pipeline.datasets.endings import Format
from rallrec_pipeline.datasets.fields import ENTRY, moment_text
from rallrec_pipeline.datasets.file_spec import ColumnSpec
from rallrec_pipeline.datasets.json_lines import PLACE
from rallrec_pipeline.datasets.probe import require_decodable
from rallrec_pipeline.datasets.unpacking import plain_file
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.archives import BROKEN_ZIP
from rallrec_pipeline.sources.source import data_files
from rallrec_pipeline.text import clean_text

IDS = ("user_id", "item_id")
WRITTEN = "\x1fwritten "  # before an id: the column as the file has it, where its ids are whole numbers like 12.0
EXACT = 2.0**53  # numbers with a fraction are whole numbers without gaps up to here
NAMES: dict[Format, str] = {"parquet": "Parquet", "arrow": "Arrow", "excel": "Excel"}
MAX_SHEET = 1 << 30  # bytes of a workbook when it is unpacked, which is read at once
UPCAST = pl.ScanCastOptions(
    integer_cast="upcast", float_cast="upcast", datetime_cast="nanosecond-downcast", categorical_to_string="allow"
)


@contextmanager
def open_frame(path: Path, kind: Format) -> Iterator[pl.LazyFrame]:
    """The file, or all files of a folder as one, with the columns that it has; folders `key=value` are columns too.

    Raises DataError where it is none of its `kind`.
    """
    try:
        if kind == "excel":
            yield _workbook(path)
        elif path.is_dir():
            yield _scan(data_files(path), kind, in_parts=True)
        else:
            with plain_file(path, path.parent) as plain:
                yield _scan([plain], kind, in_parts=False)
    except _Unreadable as error:
        reason = clean_text(str(error), 200)
        raise DataError(f"{path} is no {NAMES[kind]} file ({reason}): correct the file or its `format`") from error


class _Unreadable(Exception):
    """The bytes are of no file of that kind."""


def schema_of(frame: pl.LazyFrame) -> pl.Schema:
    """Names and types of the columns. Within `open_frame` whatever is wrong is told as its fault."""
    try:
        return frame.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _Unreadable(str(error)) from error


def reached(schema: pl.Schema, column: str) -> tuple[pl.Expr, pl.DataType] | None:
    """The column of that name, else the field or the entry that it names within one: `brand.name`, `paths.0`.

    A name is taken as it is, also `*` or `^a.*$`, which `pl.col` would take for several columns.
    """
    if column in schema:
        return by_name(column), schema[column]
    parts = column.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if (name := ".".join(parts[:end])) in schema:
            return _within(by_name(name), schema[name], parts[end:])
    return None


def names_of(schema: pl.Schema) -> list[str]:
    """Names of all columns, and of the fields within them as `a.b`."""
    return [name for column, dtype in schema.items() for name in (column, *_fields(column, dtype))]


def text_columns(frame: pl.LazyFrame, columns: Mapping[str, ColumnSpec]) -> pl.LazyFrame:
    """`line`, counted from 1, `text`, which has all of them, and each of `columns` as text."""
    schema = schema_of(frame)
    found = {name: reached(schema, column.column) for name, column in columns.items()}
    values = [_as_text(name, columns[name], *place).alias(name) for name, place in found.items() if place]
    values += [
        _plain_text(*place).alias(WRITTEN + name)
        for name, place in found.items()
        if place and name in IDS and place[1].is_float()
    ]
    rows = frame.select(values).with_row_index("line", offset=1).with_columns(pl.col("line").cast(pl.Int64))
    text = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator=" | ")
    return rows.with_columns(text.alias("text"))


def _scan(paths: list[Path], kind: Format, in_parts: bool) -> pl.LazyFrame:
    try:
        for path in paths:
            require_decodable(path, kind)
        if kind == "arrow":
            return pl.scan_ipc(paths, hive_partitioning=in_parts, glob=False)
        return pl.scan_parquet(
            paths, glob=False, hive_partitioning=in_parts, missing_columns="insert", extra_columns="ignore",
            cast_options=UPCAST,
        )  # fmt: skip
    except (pl.exceptions.PolarsError, ValueError, OSError) as error:
        raise _Unreadable(str(error)) from error


def _workbook(path: Path) -> pl.LazyFrame:
    """The first sheet of a workbook as text: its first row has the names."""
    import fastexcel

    parts = data_files(path) if path.is_dir() else [path]
    for part in parts:
        if (size := _unpacked_size(part)) > MAX_SHEET:
            raise DataError(f"{part} unpacks to {size / 1e9:,.3g} GB: save the sheet as CSV")
    try:
        sheets = [fastexcel.read_excel(part).load_sheet(0, dtypes="string").to_polars() for part in parts]
        return pl.concat(sheets).lazy()
    except (fastexcel.FastExcelError, pl.exceptions.PolarsError, OSError) as error:
        raise _Unreadable(str(error)) from error


def _unpacked_size(path: Path) -> int:
    import zipfile

    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    try:
        with zipfile.ZipFile(path) as packed:
            return sum(member.file_size for member in packed.infolist())
    except BROKEN_ZIP as error:
        raise _Unreadable(str(error)) from error


def _within(value: pl.Expr, dtype: pl.DataType, parts: list[str]) -> tuple[pl.Expr, pl.DataType] | None:
    for part in parts:
        if isinstance(dtype, pl.Array):
            value, dtype = value.arr.to_list(), pl.List(dtype.inner)
        if isinstance(dtype, pl.Struct):
            inner = {field.name: field.dtype for field in dtype.fields}.get(part)
            value = value.struct.field(part)
        elif isinstance(dtype, pl.List) and PLACE.fullmatch(part):
            inner, value = dtype.inner, value.list.get(int(part), null_on_oob=True)
        else:
            return None
        if inner is None:
            return None
        dtype = inner() if isinstance(inner, DataTypeClass) else inner
    return value, dtype


def _fields(column: str, dtype: pl.DataType | DataTypeClass) -> list[str]:
    if not isinstance(dtype, pl.Struct):
        return []
    return [
        name
        for field in dtype.fields
        for name in (f"{column}.{field.name}", *_fields(f"{column}.{field.name}", field.dtype))
    ]


def _as_text(name: str, column: ColumnSpec, value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A column as text: of a list the entries, of a moment what `column` reads, of anything nested JSON."""
    if isinstance(dtype, pl.Array):
        value, dtype = value.arr.to_list(), pl.List(dtype.inner)
    if isinstance(dtype, pl.List):
        entries = value.list.eval(_plain_text(pl.element(), dtype.inner).fill_null(""))
        return entries.list.join(ENTRY)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return moment_text(name, column, value)
    if name in IDS and dtype.is_float():
        whole = value.is_finite() & (value == value.floor()) & (value.abs() < EXACT)
        number = pl.when(whole).then(value).cast(pl.Int64).cast(pl.String)
        return pl.when(whole).then(number).otherwise(_plain_text(value, dtype))
    return _plain_text(value, dtype)


def _plain_text(value: pl.Expr, dtype: pl.DataType | DataTypeClass) -> pl.Expr:
    """A value as text; a number that is none, as pandas writes what is missing, is nothing."""
    if dtype == pl.Binary:
        return value.map_batches(_decoded, return_dtype=pl.String, is_elementwise=True)
    if isinstance(dtype, pl.List | pl.Array):
        held = pl.struct(value.alias("")).struct.json_encode()  # only structs can be encoded
        return pl.when(value.is_not_null()).then(held.str.strip_prefix('{"":').str.strip_suffix("}"))
    if isinstance(dtype, pl.Struct):
        return pl.when(value.is_not_null()).then(value.struct.json_encode())
    if dtype.is_float():
        value = value.fill_nan(None)
    return value.cast(pl.String, strict=False)


def _decoded(values: pl.Series) -> pl.Series:
    """Bytes (n,) as text; those that are no UTF-8 as hexadecimal digits."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(values.name, [None if value is None else _text_or_hex(value) for value in values], pl.String)


def _text_or_hex(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
