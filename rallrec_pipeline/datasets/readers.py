"""Raw files to canonical tables: one reader for all formats, told by the dataset's settings what it finds.

A row is either in a table or in `rejected` with its file, line and reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.fields import id_field, number_field, text_field, time_field
from rallrec_pipeline.datasets.file_spec import ColumnSpec, TableFile
from rallrec_pipeline.datasets.rows import open_rows
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import (
    IDS,
    RATINGS,
    REFUSED,
    RawTable,
    RawTables,
    good_rows,
    judge_ids,
    judge_ratings,
    rejected_rows,
)
from rallrec_pipeline.errors import DataError

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
    """line, user_id, item_id (IDS), rating, timestamp of every row, in the order of the file, for `judge_ratings`."""
    implicit = pl.lit(1.0).alias("rating")
    rating = number_field("rating", columns["rating"], table.empty) if "rating" in columns else implicit
    missing = pl.lit(None, pl.Float64).alias("timestamp")
    time = time_field("timestamp", columns["timestamp"], table.empty) if "timestamp" in columns else missing
    keys = ("user_id", "item_id")
    ids = [id_field(key, columns.get(key) or ColumnSpec(column=key), table.empty).cast(IDS) for key in keys]
    typed = rows.select("line", *ids, rating, time).collect(engine="streaming")
    return typed if typed["line"].is_sorted() else typed.sort("line")


def good_ratings(judged: pl.DataFrame) -> pl.DataFrame:
    """The table `interactions` of the ratings that `judge_ratings` finds good; ids are IDS still."""
    moment = (pl.col("timestamp") * SECOND_US).round().cast(pl.Int64)
    return good_rows(judged).select(
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
        bad = judged.filter(pl.col("reason").is_not_null()).select("line", pl.col("reason").cast(pl.String))
        refused = _with_text(bad, rows)
    rejected = rejected_rows(pl.concat([malformed, refused]).sort("line"), RATINGS, table.file)
    good = good_ratings(judged).with_columns(pl.col("user_id", "item_id").cast(pl.String))
    return RawTable(good.rechunk(), rejected)  # or the bytes of its file would depend on how it was read


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
        found = rows.select("line", "text", id_field(key, columns[key], table.empty), *values).collect().sort("line")
    judged = judge_ids(found, key)
    refused = judged.filter(pl.col("reason").is_not_null()).select("line", "reason", "text")
    good = judged.filter(pl.col("reason").is_null()).select(key, *fields)
    return RawTable(good, rejected_rows(pl.concat([malformed, refused]).sort("line"), name, table.file))
