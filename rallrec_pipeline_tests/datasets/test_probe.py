"""Files with types that would end the process are told of in one line."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.endings import Format
from rallrec_pipeline.datasets.probe import require_decodable
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.brought import dataset, items_csv, tables

RATED = pl.DataFrame({"user": ["u", "v", "w"], "item": ["a", "b", "c"], "stars": [1, 2, 3], "time": [1, 2, 3]})
FATAL = {
    "parquet": "negative number of values",  # Polars 2.1.0 asks for 2 EB of memory
    "arrow": "variadic buffer count exceeds",  # for 140 TB
}


def written(kind: Format) -> bytes:
    stream = BytesIO()
    (RATED.write_parquet if kind == "parquet" else RATED.write_ipc)(stream)
    return stream.getvalue()


def mutants(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        for value in (1, 0x7F, 0xFF):
            yield data[:place] + bytes([value]) + data[place + 1 :]


def fatal(kind: Format, path: Path) -> bytes:
    """The file with one byte changed, by which Polars would end the process."""
    for data in mutants(written(kind)):
        path.write_bytes(data)
        try:
            require_decodable(path, kind)
        except (OSError, ValueError) as error:
            if FATAL[kind] in str(error):
                return data
    raise AssertionError("no mutant is fatal")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_file_that_would_end_the_process_is_named(kind: Format, tmp_path: Path) -> None:
    name = f"ratings.{kind}"
    told = f'file = "{name}"'
    path = dataset(tmp_path, {name: fatal(kind, tmp_path / name), "items.csv": items_csv()}, interactions=told)
    with pytest.raises(DataError, match=f"{name} is no {kind.title()} file .*{FATAL[kind]}.*correct the file"):
        tables(path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_type_that_is_not_read_is_named(kind: Format, tmp_path: Path) -> None:
    wide, stream, name = RATED.with_columns(pl.col("time").cast(pl.Int128)), BytesIO(), f"ratings.{kind}"
    (wide.write_parquet if kind == "parquet" else wide.write_ipc)(stream)
    files = {name: stream.getvalue(), "items.csv": items_csv()}
    told = dataset(tmp_path, files, interactions=f'file = "{name}"')
    with pytest.raises(DataError, match=r"more than 64 bits.*: store a plain number or text"):
        tables(told)


def test_a_file_is_decoded_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    path.write_bytes(written("parquet"))
    require_decodable(path, "parquet")
    path.write_bytes(b"PAR1")
    with pytest.raises((OSError, ValueError)):
        require_decodable(path, "parquet")
