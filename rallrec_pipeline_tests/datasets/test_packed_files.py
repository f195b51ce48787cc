"""Files as people pack and name them, in one part or many: each is read, or one line says what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.raw_files import fetch_raw_files, source_state
from rallrec_pipeline.datasets.raw_lines import find_lines
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.brought import (
    HEADER,
    INTERACTIONS,
    RATED,
    WANTED,
    check,
    dataset,
    delimited,
    items_csv,
    json_lines,
    parquet,
    ratings_csv,
    tables,
    tarred,
    told,
    workbook,
    zipped,
    zst,
)

CSV = ratings_csv()
PACKED = {
    "ratings.csv.gz": gzip.compress(CSV),
    "ratings.csv.zst": zst(CSV),
    "ratings.csv.xz": lzma.compress(CSV),
    "ratings.csv.bz2": bz2.compress(CSV),
    "ratings.csv.zip": zipped("ratings.csv", CSV),
    "ratings.zip": zipped("ratings.csv", CSV),
    "ratings.csv.tar": tarred("ratings.csv", CSV),
    "ratings.tar.gz": gzip.compress(tarred("ratings.csv", CSV)),
    "ratings.tar.zst": zst(tarred("ratings.csv", CSV)),
    "ratings.csv": gzip.compress(CSV),  # its first bytes tell it, not its name
    "two frames.csv.zst": zst(CSV[:1000]) + zst(CSV[1000:]),
}


@pytest.mark.parametrize("name", sorted(PACKED))
def test_packed_files_of_a_folder_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    path = dataset(tmp_path, {name: PACKED[name]}, interactions=f'file = "{name}"')
    assert check(path).problems == []
    found = tables(path)
    assert found.interactions.drop("microsecond").equals(WANTED) and found.rejected.is_empty()


def test_packed_binary_files_are_read_too(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"r.parquet.gz": gzip.compress(parquet(RATED))}, interactions='file = "r.parquet.gz"')
    assert check(path).problems == [] and tables(path).interactions.height == RATED.height


def test_a_packed_file_that_gives_too_much_or_is_broken_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rallrec_pipeline.datasets.unpacking.ALWAYS", 1000)
    bomb = gzip.compress(b"user_id,item_id,rating,timestamp\n" + b"u,i,5,1600000000\n" * 100_000)
    path = dataset(tmp_path, {"ratings.csv.gz": bomb}, interactions='file = "ratings.csv.gz"')
    assert told(check(path).problems, "ratings.csv.gz gives more than", "distrust the file")
    with pytest.raises(DataError, match="gives more than"):
        tables(path)
    for name, content in sorted(PACKED.items()):
        path = dataset(tmp_path, {name: content[: min(len(content) // 2, 1500)]}, interactions=f'file = "{name}"')
        assert told(check(path).problems, "corrupt or truncated") and len(check(path).problems) == 1
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as packed:
        packed.writestr("a.csv", CSV)
        packed.writestr("b.csv", CSV)
    path = dataset(tmp_path, {"ratings.zip": two.getvalue()}, interactions='file = "ratings.zip"')
    assert told(check(path).problems, "holds a.csv, b.csv", 'source.kind = "zip"')


def test_parts_in_a_folder_are_one_table_and_a_part_that_comes_or_goes_is_noticed(tmp_path: Path) -> None:
    half = RATED.height // 2
    parts = {
        "ratings.parquet/_SUCCESS": b"",
        "ratings.parquet/.part-0.parquet.crc": b"crc",
        "ratings.parquet/part-0.snappy.parquet": parquet(RATED[:half]),
        "ratings.parquet/part-1.snappy.parquet": parquet(RATED[half:]),
    }
    path = dataset(tmp_path, parts, interactions='file = "ratings.parquet"')
    assert check(path).problems == []
    assert tables(path).interactions.drop("microsecond").equals(WANTED)
    before = source_state(load_dataset(path))
    (tmp_path / "data" / "ratings.parquet" / "part-1.snappy.parquet").unlink()
    assert source_state(load_dataset(path)) != before
    assert tables(path).interactions.height == half
    assert len(fetch_raw_files(load_dataset(path), path.parent.parent)) == 2


@pytest.mark.parametrize("repeated", [True, False], ids=["each with a header", "the first with a header"])
def test_a_pattern_and_folders_named_by_a_value_are_one_table(tmp_path: Path, repeated: bool) -> None:
    half = RATED.height // 2
    rows = RATED.rows()
    parts = {
        "log/year=2020/part-0.csv": delimited(HEADER, rows[:half])[:-1],  # without a line end at its end
        "log/year=2021/part-0.csv": delimited(HEADER if repeated else (), rows[half:]),
    }
    interactions = 'file = "log/*/part-*.csv"\nwhere = { year = 2021 }'
    path = dataset(tmp_path, parts, interactions=interactions)
    found = check(path)
    assert found.problems == [] and found.figures["refused"]["interactions: not chosen by where"] == half
    assert tables(path).interactions.drop("microsecond").equals(WANTED[half:])
    whole = dataset(tmp_path, {}, interactions='file = "log"\nformat = "csv"')
    assert tables(whole).interactions.drop("microsecond").equals(WANTED)


def in_lines(frame: pl.DataFrame) -> bytes:
    """Objects, one a line."""
    return json_lines(frame.rows(named=True))


def over_lines(frame: pl.DataFrame) -> bytes:
    """Objects in a row, each over several lines, with blank ones between."""
    return "\n\n".join(json.dumps(row, indent=2) for row in frame.rows(named=True)).encode()


@pytest.mark.parametrize("write", [in_lines, over_lines])
def test_hive_folders_of_json_are_columns_however_an_object_is_written(
    tmp_path: Path, write: Callable[[pl.DataFrame], bytes]
) -> None:
    by_folder = RATED.partition_by("user_id", "rating", as_dict=True)
    parts = {
        f"hive/user_id={user}/stars={rating}/a.json": write(rows.drop("user_id", "rating"))
        for (user, rating), rows in by_folder.items()
    }
    columns = INTERACTIONS.replace('rating = "rating"', 'rating = "stars"')
    path = dataset(tmp_path, parts, 'file = "hive"\nformat = "json_lines"', columns)
    assert check(path).problems == []
    assert tables(path).interactions.drop("microsecond").sort(HEADER).equals(WANTED.sort(HEADER))


def test_a_pretty_list_in_a_hive_folder_is_of_that_folder(tmp_path: Path) -> None:
    rows = [{**row, "tags": ["ä", {"user_id": "u9"}]} for row in RATED.drop("user_id").rows(named=True)]
    text = "\n" + json.dumps({"count": len(rows), "rows": rows}, indent=4, ensure_ascii=False) + "\n"
    parts = {"hive/user_id=u0/a.json": b"\n\n", "hive/user_id=u1/a.json": text.encode()}
    path = dataset(tmp_path, parts, 'file = "hive"\nformat = "json_lines"')
    found = tables(path).interactions
    assert set(found["user_id"]) == {"u1"} and found.height == RATED["item_id"].n_unique()


def test_hive_folders_of_parquet_are_columns(tmp_path: Path) -> None:
    half = RATED.height // 2
    parts = {
        "hive/user_id=u0/a.parquet": parquet(RATED[:half].drop("user_id")),
        "hive/user_id=u1/a.parquet": parquet(RATED[half:].drop("user_id")),
    }
    path = dataset(tmp_path, parts, interactions='file = "hive"\nformat = "parquet"')
    assert not told(check(path).problems, "lacks") and set(tables(path).interactions["user_id"]) == {"u0", "u1"}


def test_parts_with_columns_in_another_order_are_told(tmp_path: Path) -> None:
    parts = {"log/a.csv": CSV, "log/b.csv": b"item_id,user_id,rating,timestamp\ni1,u1,5,1600000000\n"}
    path = dataset(tmp_path, parts, interactions='file = "log/*.csv"')
    assert told(check(path).problems, "in another order")


@pytest.mark.parametrize(
    "name", ["ratings (1).csv", "export/ratings.csv", "Bewertungen [neu] für alle.csv", "ratings*.csv"]
)
def test_files_may_have_names_of_any_kind(tmp_path: Path, name: str) -> None:
    path = dataset(tmp_path, {name.replace("*", " (2)"): CSV}, interactions=f'file = "{name}"')
    if "*" in name:
        (tmp_path / "data" / "ratings.csv").unlink()
    assert check(path).problems == [] and tables(path).interactions.height == RATED.height
    spec = load_dataset(path)
    assert find_lines(spec, path.parent.parent, spec.interactions, "item_id", "i1").count > 0


def test_a_name_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"Bu\u0308cher.csv": items_csv()}, items='file = "B\u00fccher.csv"')
    assert check(path).problems == [] and tables(path).items.height == 12


@pytest.mark.parametrize("ending", ["feather", "arrow", "xlsx"])
def test_arrow_files_and_workbooks_are_read(tmp_path: Path, ending: str) -> None:
    stream = io.BytesIO()
    if ending == "xlsx":
        stream.write(workbook(HEADER, RATED.rows()))
    else:
        RATED.write_ipc(stream, compression="zstd")
    path = dataset(tmp_path, {f"ratings.{ending}": stream.getvalue()}, interactions=f'file = "ratings.{ending}"')
    assert check(path).problems == []
    assert tables(path).interactions.drop("microsecond").equals(WANTED)
    wrong = dataset(tmp_path, {"ratings.csv": stream.getvalue()})
    assert told(check(wrong).problems, f'set interactions.format = "{"excel" if ending == "xlsx" else "arrow"}"')
