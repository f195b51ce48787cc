"""Raw files to canonical tables: one reader for all formats, told by the dataset's settings what it finds.

A row is either in a table or in `rejected` with its file, line and reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.delimited import Dialect, header_fields, split_fields
from rallrec_pipeline.datasets.fields import ENTRY, id_field, number_field, text_field, time_field
from rallrec_pipeline.datasets.json_lines import keys_of, split_objects
from rallrec_pipeline.datasets.lines import first_line, open_lines
from rallrec_pipeline.datasets.spec import ColumnSpec, DatasetSpec, TableFile
from rallrec_pipeline.datasets.tables import RawTable, RawTables, judge_ids, judge_ratings, rejected_rows
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.text import clean_text

Rows = tuple[pl.LazyFrame, pl.DataFrame]
"""(`line`, `text` and one text column per canonical name, refused rows)."""

FIRST_LINES = 10_000  # of a JSON file, searched for its keys


def read_raw(spec: DatasetSpec, lake: Path) -> RawTables:
    """All tables of a dataset from its raw files. Raises DataError."""
    interactions, items, users = read_interactions(spec, lake), read_items(spec, lake), read_users(spec, lake)
    rejected = pl.concat([interactions.rejected, items.rejected, users.rejected])
    return RawTables(interactions.table, items.table, users.table, rejected)


def read_interactions(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `interactions`: a rating per row, `timestamp` null where the source has none.

    Feedback without ratings counts as a rating of 1. Raises DataError when a file is missing or no such table.
    """
    table = spec.interactions
    columns = mapped_columns(table, ("user_id", "item_id"))
    known = None if spec.unknown_items == "keep" else read_items(spec, lake).table["item_id"]
    with open_rows(raw_file(spec, lake, table), table, columns) as (rows, malformed):
        judged = judge_ratings(typed_ratings(rows, table, columns), spec.scale, known, "timestamp" in columns)
        refused = _with_text(judged.filter(pl.col("reason").is_not_null()).select("line", "reason"), rows)
    return RawTable(good_ratings(judged), rejected_rows(pl.concat([malformed, refused]).sort("line"), table.file))


def read_items(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `items`: item_id, title and the dataset's own fields. Raises DataError."""
    return _catalogue(spec, lake, spec.items, "item_id", ("title", *spec.item_fields))


def read_users(spec: DatasetSpec, lake: Path) -> RawTable:
    """The table `users`: user_id and profile fields; empty for a dataset without a user file. Raises DataError."""
    if spec.users is None:
        empty = pl.DataFrame(schema={"line": pl.Int64, "reason": pl.String, "text": pl.String})
        return RawTable(pl.DataFrame(schema={"user_id": pl.String}), rejected_rows(empty, ""))
    return _catalogue(spec, lake, spec.users, "user_id", spec.user_fields)


def column_names(path: Path, table: TableFile) -> list[str]:
    """Names of the columns that the file itself has. Raises DataError when it cannot be read."""
    if table.format == "parquet":
        return _parquet_schema(path).names()
    with open_lines(path, table.encoding, path.parent) as lines:
        return keys_of(lines) if table.format == "json_lines" else _header(lines, path, table)


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
    return judged.filter(pl.col("reason").is_null()).select(
        "user_id", "item_id", pl.col("rating").cast(pl.Float32), pl.col("timestamp").cast(pl.Int64)
    )


def _with_text(refused: pl.DataFrame, rows: pl.LazyFrame) -> pl.DataFrame:
    """Refused rows with their text, which is not carried along for the good ones."""
    if refused.is_empty():
        return refused.with_columns(pl.lit("").alias("text")).select("line", "reason", "text")
    texts = rows.select("line", "text").join(refused.lazy().select("line"), on="line", how="semi").collect()
    return refused.join(texts, on="line", how="left").select("line", "reason", "text")


def _catalogue(spec: DatasetSpec, lake: Path, table: TableFile, key: str, fields: tuple[str, ...]) -> RawTable:
    """Rows with `key` and `fields`, all text, and the refused rows."""
    columns = mapped_columns(table, (key, *fields))
    with open_rows(raw_file(spec, lake, table), table, columns) as (rows, malformed):
        values = [text_field(name, columns[name], table.empty) for name in fields]
        found = rows.select("line", "text", id_field(key), *values).collect().sort("line")
    judged = judge_ids(found, key)
    refused = judged.filter(pl.col("reason").is_not_null()).select("line", "reason", "text")
    good = judged.filter(pl.col("reason").is_null()).select(key, *fields)
    return RawTable(good, rejected_rows(pl.concat([malformed, refused]).sort("line"), table.file))


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
    names = _header(lines, path, table)
    _need(path, names, columns)
    body = lines if table.header else lines.filter(pl.col("line") > 1)
    found, refused = split_fields(body, Dialect.of(table), len(names))
    fields = [pl.col("fields").list.get(names.index(column.column)).alias(name) for name, column in columns.items()]
    return found.select("line", "text", *fields), refused


def _header(lines: pl.LazyFrame, path: Path, table: TableFile) -> list[str]:
    if table.header:
        return list(table.header)
    line = first_line(lines)
    if not line.strip():
        raise DataError(f"{path} is empty or has no header: fetch the file again")
    names = header_fields(line, Dialect.of(table))
    return [name.split(":")[0].strip() for name in names] if table.format == "atomic" else names


def _present_keys(lines: pl.LazyFrame, columns: Mapping[str, ColumnSpec]) -> list[str]:
    """Of `columns` those that any of the first lines has; in a file without lines all of them."""
    wanted = list(dict.fromkeys(column.column for column in columns.values()))
    first = lines.head(FIRST_LINES)
    if first.collect().is_empty():
        return wanted
    found, _ = split_objects(first, {f"column {i}": column for i, column in enumerate(wanted)})
    counts = found.select(pl.col(f"column {i}").count() for i in range(len(wanted))).collect().row(0)
    return [name for name, count in zip(wanted, counts, strict=True) if count]


def _parquet_rows(path: Path, columns: Mapping[str, ColumnSpec]) -> Rows:
    schema = _parquet_schema(path)
    _need(path, schema.names(), columns)
    values = [_parquet_text(column.column, schema[column.column]).alias(name) for name, column in columns.items()]
    rows = pl.scan_parquet(path).select(values).with_row_index("line", offset=1)
    rows = rows.with_columns(pl.col("line").cast(pl.Int64))
    text = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator=" | ")
    refused = pl.DataFrame(schema={"line": pl.Int64, "reason": pl.String, "text": pl.String})
    return rows.with_columns(text.alias("text")), refused


def _parquet_schema(path: Path) -> pl.Schema:
    try:
        return pl.scan_parquet(path).collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = clean_text(str(error), 200)
        raise DataError(f"{path} is no Parquet file ({reason}): correct the file or its `format`") from error


def _parquet_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as text; moments as UTC seconds."""
    value = pl.col(name)
    if isinstance(dtype, pl.List):
        return value.list.eval(pl.element().cast(pl.String, strict=False)).list.join(ENTRY)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return (value.cast(pl.Datetime("us")).dt.epoch("us") / 1e6).cast(pl.String)
    return value.cast(pl.String, strict=False)


def _need(path: Path, names: list[str], columns: Mapping[str, ColumnSpec]) -> None:
    unclear = [column.column for column in columns.values() if names.count(column.column) != 1]
    if unclear:
        found = clean_text(", ".join(names)) or "nothing"
        raise DataError(
            f"{path}: the header must have {', '.join(unclear)} once; it has {found}: mend the file or `columns`"
        )
