"""Schema-checked Parquet: what a table declares is enforced by its writer."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import DamagedError, DataError, StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.shards import shard_files, write_shards
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.lake.tables import Table


def write_table(frame: pl.DataFrame, table: Table, root: Path, dataset: str, previous: Path | None = None) -> Path:
    """Check `frame` against `table` (columns, dtypes, unique key) and write it atomically below `root`.

    Of a table in shards those whose rows are the same below `previous` are taken over from there.
    Raises DataError that says found and expected.
    """
    checked = check_schema(frame, table, dataset)
    path = table.file(root, dataset)
    if table.wide:
        write_shards(checked, path, table.key[0], table.wide, previous and table.file(previous, dataset))
        return path
    with atomic_path(path) as temporary:
        checked.write_parquet(temporary, compression="zstd")
    return path


def read_table(table: Table, root: Path, dataset: str) -> pl.DataFrame:
    """The whole table below `root`, a result's folder or the lake; one in shards has its rows in no particular order.

    Raises StaleArtefactError when it was never made, or by a version that knew fewer columns, DamagedError when its
    file is damaged.
    """
    try:
        frame = scan_table(table, root, dataset).collect()
    except pl.exceptions.PolarsError as error:
        path, reason = table.file(root, dataset), str(error).partition("\n")[0]
        raise DamagedError(
            f"{path} is damaged ({reason}): delete it and run `rallrec run {dataset} --select {table.stage}`"
        ) from error
    if missing := [name for name in table.columns if name not in frame.columns]:
        raise StaleArtefactError(
            f"{table.name} of {dataset!r} is of an older version, without {', '.join(missing)}: "
            f"run `rallrec run {dataset} --select {table.stage}` first"
        )
    return frame


def scan_table(table: Table, root: Path, dataset: str) -> pl.LazyFrame:
    """The table, lazily. Raises StaleArtefactError when it was never made, DamagedError when it was damaged since."""
    path = table.file(root, dataset)
    if not table.exists(root, dataset):
        raise StaleArtefactError(
            f"{table.name} of {dataset!r} is missing ({path}): run `rallrec run {dataset} --select {table.stage}` first"
        )
    files = shard_files(path) if table.wide else [path]
    require_sound(files)
    return pl.scan_parquet(files, glob=False)


def check_schema(frame: pl.DataFrame, table: Table, dataset: str) -> pl.DataFrame:
    """`frame` with the table's column order. Raises DataError on a wrong column, dtype or key."""
    where = f"table {table.name} of {dataset!r}"
    missing = [name for name in table.columns if name not in frame.columns]
    extra = [name for name in frame.columns if name not in table.columns]
    if missing or (extra and not table.open_fields):
        raise DataError(f"{where}: missing columns {missing}, unexpected columns {extra}")
    for name, dtype in table.columns.items():
        found = frame.schema[name]
        if not _same(found, dtype):
            raise DataError(f"{where}: column {name!r} is {found}, expected {dtype}")
    if wrong := [name for name in extra if frame.schema[name] != pl.String]:
        raise DataError(f"{where}: item and user fields must be text, these are not: {wrong}")
    if table.key and (repeated := frame.height - frame.select(table.key).unique().height):
        raise DataError(f"{where}: {repeated} rows repeat the key {table.key}")
    return frame.select(*table.columns, *extra)


def _same(found: pl.DataType, expected: pl.DataType | type[pl.DataType]) -> bool:
    if isinstance(expected, pl.Array):  # the width of a vector is the model's, not the table's
        return isinstance(found, pl.Array) and found.inner == expected.inner
    return found == expected
