"""Raw files to canonical tables: one reader for all formats, told by the dataset's settings what it finds.

A row is either in a table or in `rejected` with its file, line and reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.datatypes import DataTypeClass

from rallrec_pipeline.datasets.delimited import Dialect, header_fields, split_fields
from rallrec_pipeline.datasets.fields import ENTRY, id_field, moment_text, number_field, text_field, time_field
from rallrec_pipeline.datasets.json_lines import keys_of, split_objects
from rallrec_pipeline.datasets.lines import first_line, open_lines
from rallrec_pipeline.datasets.spec import ColumnSpec, DatasetSpec, TableFile
from rallrec_pipeline.datasets.tables import (
    RATINGS,
    REFUSED,
    RawTable,
    RawTables,
    judge_ids,
    judge_ratings,
    rejected_rows,
)
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.text import clean_text

Rows = tuple[pl.LazyFrame, pl.DataFrame]
"""(`line`, `text` and one text column per canonical name, refused rows)."""

FIRST_LINES = 10_000  # of a JSON file, searched for its keys; the others only for keys that these lack
SECOND_US = 1_000_000


def read_raw(spec: DatasetSpec, lake: Path) -> RawTables:
    """All tables of a dataset from its raw files. Raises DataError."""
    items, users = read_items(spec, lake), read_users(spec, lake)
    interactions = _read_ratings(spec, lake, items.table["item_id"] if spec.unknown_items == "reject" else None)
    rejected = pl.concat([interactions.rejected, items.rejected, users.rejected])
    return RawTables(interactions.table, items.table, users.table, rejected)


def read_interactions(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `interactions`: a rating per row, `timestamp` null where the source has none.

    Feedback without ratings counts as a rating of 1. Raises DataError when a file is missing or no such table.
    """
    return _read_ratings(spec, lake, None if spec.unknown_items == "keep" else read_items(spec, lake).table["item_id"])


def read_items(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `items`: item_id, title and the dataset's own fields. Raises DataError."""
    return _catalogue(spec, lake, spec.items, "items", "item_id", ("title", *spec.item_fields))


def read_users(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `users`: user_id and profile fields; empty for a dataset without a user file. Raises DataError."""
    if spec.users is None:
        none = rejected_rows(pl.DataFrame(schema=REFUSED), "users", "")
        return RawTable(pl.DataFrame(schema={"user_id": pl.String}), none)
    return _catalogue(spec, lake, spec.users, "users", "user_id", spec.user_fields)


def column_names(path: Path, table: TableFile) -> list[str]:
    """Names of the columns that the file itself has. Raises DataError when it cannot be read."""
    if table.format == "parquet":
        return _parquet_schema(path).names()
    with open_lines(path, table.encoding, path.parent) as lines:
        return keys_of(lines) if table.format == "json_lines" else _header(lines, path, table)[1]


def unclear_columns(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> list[str]:
    """Names among `columns` whose column the file does not have, or not once. Raises DataError as `column_names`."""
    if table.format == "json_lines":
        with open_lines(path, table.encoding, path.parent) as lines:
            names = _present_keys(lines.filter(pl.col("text") != ""), columns)
    else:
        names = column_names(path, table)
    return [name for name, column in columns.items() if names.count(column.column) != 1]


def raw_folder(lake: Path, dataset: str) -> Path:
    """Where the raw files of a dataset lie."""
    return lake / "raw" / dataset


def raw_file(spec: DatasetSpec, lake: Path, table: TableFile) -> Path:
    """Path of a table's raw file. Raises DataError when it is not there."""
    path = raw_folder(lake, spec.name) / table.file
    if not path.exists():
        raise DataError(f"{path.parent} lacks {path.name}: run `rallrec run {spec.name} --select raw_files`")
    return path


def mapped_columns(table: TableFile, wanted: tuple[str, ...]) -> dict[str, ColumnSpec]:
    """`table.columns`; what is wanted and not mapped has its own name in the file."""
    return {name: ColumnSpec(column=name) for name in wanted if name not in table.columns} | table.columns


def typed_ratings(rows: pl.LazyFrame, table: TableFile, columns: Mapping[str, ColumnSpec]) -> pl.DataFrame:
    """line, user_id, item_id, rating, timestamp of every row, in the order of the file, for `judge_ratings`."""
    rating = number_field("rating", table.empty) if "rating" in columns else pl.lit(1.0).alias("rating")
    missing = pl.lit(None, pl.Float64).alias("timestamp")
    time = time_field("timestamp", columns["timestamp"], table.empty) if "timestamp" in columns else missing
    return (
        rows.select("line", id_field("user_id"), id_field("item_id"), rating, time)
        .collect(engine="streaming")
        .sort("line")
    )


def good_ratings(judged: pl.DataFrame) -> pl.DataFrame:
    """The table `interactions` of the ratings that `judge_ratings` finds good."""
    moment = (pl.col("timestamp") * SECOND_US).round().cast(pl.Int64)
    return judged.filter(pl.col("reason").is_null()).select(
        "user_id",
        "item_id",
        pl.col("rating").cast(pl.Float32),
        (moment // SECOND_US).alias("timestamp"),
        (moment % SECOND_US).cast(pl.Int32).alias("microsecond"),
    )


def _read_ratings(spec: DatasetSpec, lake: Path, known: pl.Series | None) -> RawTable:
    """The table `interactions`, given the ids of the `known` items; None knows all."""
    table = spec.interactions
    columns = mapped_columns(table, ("user_id", "item_id"))
    with open_rows(raw_file(spec, lake, table), table, columns) as (rows, malformed):
        typed = typed_ratings(rows, table, columns)
        judged = judge_ratings(typed, spec.scale, known, "timestamp" in columns, spec.repeats)
        refused = _with_text(judged.filter(pl.col("reason").is_not_null()).select("line", "reason"), rows)
    rejected = rejected_rows(pl.concat([malformed, refused]).sort("line"), RATINGS, table.file)
    return RawTable(good_ratings(judged), rejected)


def _with_text(refused: pl.DataFrame, rows: pl.LazyFrame) -> pl.DataFrame:
    """Refused rows with their text, which is not carried along for the good ones."""
    if refused.is_empty():
        return refused.with_columns(pl.lit("").alias("text")).select("line", "reason", "text")
    texts = rows.select("line", "text").join(refused.lazy().select("line"), on="line", how="semi").collect()
    return refused.join(texts, on="line", how="left").select("line", "reason", "text")


def _catalogue(
    spec: DatasetSpec, lake: Path, table: TableFile, name: str, key: str, fields: tuple[str, ...]
) -> RawTable:
    """The table `name`: rows with `key` and `fields`, all text, and the refused rows."""
    columns = mapped_columns(table, (key, *fields))
    with open_rows(raw_file(spec, lake, table), table, columns) as (rows, malformed):
        values = [text_field(field, columns[field], table.empty) for field in fields]
        found = rows.select("line", "text", id_field(key), *values).collect().sort("line")
    judged = judge_ids(found, key)
    refused = judged.filter(pl.col("reason").is_not_null()).select("line", "reason", "text")
    good = judged.filter(pl.col("reason").is_null()).select(key, *fields)
    return RawTable(good, rejected_rows(pl.concat([malformed, refused]).sort("line"), name, table.file))


@contextmanager
def open_rows(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> Iterator[Rows]:
    """The file as text columns, named as `columns` says.

    Raises DataError when a column is missing, and for a fault that shows only when the rows are collected.
    """
    try:
        with _opened(path, table, columns) as rows:
            yield rows
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a broken page, a rule Rust lacks
        reason = clean_text(str(error), 200)
        raise DataError(f"{path} cannot be read ({reason}): mend the file or the rules in `columns`") from error


@contextmanager
def _opened(path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> Iterator[Rows]:
    if table.format == "parquet":
        yield _parquet_rows(path, columns)
        return
    with open_lines(path, table.encoding, path.parent) as lines:
        if table.format == "json_lines":
            lines = lines.filter(pl.col("text") != "")
            _need(path, _present_keys(lines, columns), columns)
            yield split_objects(lines, {name: column.column for name, column in columns.items()})
        else:
            yield _delimited_rows(lines, path, table, columns)


def _delimited_rows(lines: pl.LazyFrame, path: Path, table: TableFile, columns: Mapping[str, ColumnSpec]) -> Rows:
    last, names = _header(lines, path, table)
    _need(path, names, columns)
    places = {name: names.index(column.column) for name, column in columns.items()}
    return split_fields(lines.filter(pl.col("line") > last), Dialect.of(table), len(names), places)


def _header(lines: pl.LazyFrame, path: Path, table: TableFile) -> tuple[int, list[str]]:
    """The number of the header's line, 0 where the settings have it, and the names."""
    if table.header:
        return 0, list(table.header)
    line, text = first_line(lines)
    if not line:
        raise DataError(f"{path} is empty or has no header: fetch the file again")
    names = header_fields(text, Dialect.of(table))
    return line, [name.split(":")[0].strip() for name in names] if table.format == "atomic" else names


def _present_keys(lines: pl.LazyFrame, columns: Mapping[str, ColumnSpec]) -> list[str]:
    """Of `columns` those that any line has, which the first lines mostly tell; in a file without lines all of them."""
    wanted = list(dict.fromkeys(column.column for column in columns.values()))
    first = lines.head(FIRST_LINES)
    if first.collect().is_empty():
        return wanted
    found = _keys_among(first, wanted)
    rare = [name for name in wanted if name not in found]
    return [*found, *_keys_among(lines, rare)] if rare else found


def _keys_among(lines: pl.LazyFrame, wanted: list[str]) -> list[str]:
    names = {f"column {i}": column for i, column in enumerate(wanted)}
    found, _ = split_objects(lines, names)
    counts = found.select(pl.col(name).count() for name in names).collect(engine="streaming").row(0)
    return [column for column, count in zip(wanted, counts, strict=True) if count]


def _parquet_rows(path: Path, columns: Mapping[str, ColumnSpec]) -> Rows:
    schema = _parquet_schema(path)
    _need(path, schema.names(), columns)
    values = [_parquet_text(name, column, schema[column.column]).alias(name) for name, column in columns.items()]
    rows = pl.scan_parquet(path, glob=False).select(values).with_row_index("line", offset=1)
    rows = rows.with_columns(pl.col("line").cast(pl.Int64))
    text = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator=" | ")
    return rows.with_columns(text.alias("text")), pl.DataFrame(schema=REFUSED)


def _parquet_schema(path: Path) -> pl.Schema:
    try:
        return pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = clean_text(str(error), 200)
        raise DataError(f"{path} is no Parquet file ({reason}): correct the file or its `format`") from error


def _parquet_text(name: str, column: ColumnSpec, dtype: pl.DataType) -> pl.Expr:
    """A column as text: of a list the entries, of a moment what `column` reads, of anything nested JSON."""
    value = pl.col(column.column)
    if isinstance(dtype, pl.Array):
        value, dtype = value.arr.to_list(), pl.List(dtype.inner)
    if isinstance(dtype, pl.List):
        entries = value.list.eval(_plain_text(pl.element(), dtype.inner).fill_null(""))
        return entries.list.join(ENTRY)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return moment_text(name, column, value)
    return _plain_text(value, dtype)


def _plain_text(value: pl.Expr, dtype: pl.DataType | DataTypeClass) -> pl.Expr:
    """A value as text."""
    if dtype == pl.Binary:
        return value.map_batches(_decoded, return_dtype=pl.String, is_elementwise=True)
    if isinstance(dtype, pl.List | pl.Array):
        held = pl.struct(value.alias("")).struct.json_encode()  # only structs can be encoded
        return pl.when(value.is_not_null()).then(held.str.strip_prefix('{"":').str.strip_suffix("}"))
    if isinstance(dtype, pl.Struct):
        return pl.when(value.is_not_null()).then(value.struct.json_encode())
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


def _need(path: Path, names: list[str], columns: Mapping[str, ColumnSpec]) -> None:
    unclear = [column.column for column in columns.values() if names.count(column.column) != 1]
    if unclear:
        found = clean_text(", ".join(names)) or "nothing"
        raise DataError(
            f"{path}: the header must have {', '.join(unclear)} once; it has {found}: mend the file or `columns`"
        )
