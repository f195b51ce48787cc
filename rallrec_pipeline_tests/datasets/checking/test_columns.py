"""Columns that a file has or lacks, its layout and its bytes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import ITEMS, check, good_frames, make


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_missing_columns_of_every_table_are_told_with_those_that_are_there(tmp_path: Path, ending: str) -> None:
    frames = good_frames()
    found = check(
        make(
            tmp_path,
            ending,
            ratings=frames["ratings"].rename({"stars": "Stars", "user": "User"}),
            items=frames["items"].drop("genre"),
            users=frames["users"].rename({"user": "User"}),
        )
    )
    assert told(found.problems, f"ratings.{ending}", "'user' (for user_id)", "'stars' (for rating)", "'Stars'")
    assert told(found.problems, f"items.{ending}", "'genre' (for genre)", "'name'")
    assert told(found.problems, f"users.{ending}", "'user' (for user_id)", "'User', 'age'")
    assert len(found.problems) == 3


@pytest.mark.parametrize(
    ("separator", "change", "what"),
    [(";", "", 'set separator = ";"'), ("\t", "", 'set separator = "\\t"'), (",", "no header", "with `header`")],
)
def test_another_layout_is_recognised(tmp_path: Path, separator: str, change: str, what: str) -> None:
    path = make(tmp_path)
    good_frames()["ratings"].write_csv(
        tmp_path / "data" / "ratings.csv", separator=separator, include_header=not change
    )
    assert told(check(path).problems, "ratings.csv lacks the column", what)


def test_a_column_that_is_there_twice_is_a_problem(tmp_path: Path) -> None:
    path = make(tmp_path)
    (tmp_path / "data" / "users.csv").write_text("user,age,age\nu1,2,3\n", encoding="utf-8")
    assert told(check(path).problems, "users.csv must have once the column 'age'")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_columns_may_have_the_names_that_the_readers_use_and_titles_may_begin_with_a_bracket(
    tmp_path: Path, ending: str
) -> None:
    items = good_frames()["items"].select(
        pl.col("item").alias("line"), ("[REC] " + pl.col("name")).alias("text"), pl.col("genre").alias("reason")
    )
    columns = (
        'item_id = "item", title = "name", genre = "genre"',
        'item_id = "line", title = "text", genre = "reason"',
    )
    found = check(make(tmp_path, ending, toml=(columns,), items=items))
    assert (found.problems, found.warnings) == ([], [])


def test_a_wide_quoted_header_is_read_at_once(tmp_path: Path) -> None:
    path = make(tmp_path)
    names = ["user", "age", *(f"column {i}" for i in range(300))]
    header, row = ",".join(f'"{name}"' for name in names), ",".join(["u1", *(["5"] * 301)])
    (tmp_path / "data" / "users.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert check(path).figures["rows"]["users"] == 1


@pytest.mark.parametrize("layout", ["cut off", "a list of lists"])
def test_json_that_holds_no_records_is_recognised(tmp_path: Path, layout: str) -> None:
    path = make(tmp_path, "jsonl")
    rows = good_frames()["items"].to_dicts()
    text = json.dumps(rows, indent=1)[:-9] if layout == "cut off" else json.dumps([list(row.values()) for row in rows])
    (tmp_path / "data" / "items.jsonl").write_text(text, encoding="utf-8")
    assert told(check(path).problems, "items.jsonl", "one JSON object per line")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00rest", "items.csv is packed, and corrupt or truncated"),
        (b"PK\x03\x04rest", "items.csv is packed, and corrupt or truncated"),
        (b"PAR1rest", 'items.csv is Parquet, not csv: set items.format = "parquet"'),
        (b"", "items.csv is empty or has no header"),
        (b"item,name,genre\n", "items.csv has no rows"),
        ("item,name,genre\ni1,x,y\n".encode("utf-16"), 'items.csv is UTF-16, not utf-8: set items.encoding = "utf-16"'),
    ],
)
def test_bytes_of_another_kind_are_recognised(tmp_path: Path, content: bytes, what: str) -> None:
    path = make(tmp_path)
    (tmp_path / "data" / "items.csv").write_bytes(content)
    assert told(check(path).problems, what)


@pytest.mark.parametrize("cut", [3, 200, 2000])
def test_a_parquet_file_that_is_cut_off_is_a_problem(tmp_path: Path, cut: int) -> None:
    path = make(tmp_path, "parquet")
    file = tmp_path / "data" / "ratings.parquet"
    file.write_bytes(file.read_bytes()[:-cut])
    assert told(check(path).problems, "ratings.parquet is no Parquet file")


@pytest.mark.parametrize("many", [True, False])
def test_an_encoding_that_does_not_fit_is_told_with_one_that_does(tmp_path: Path, many: bool) -> None:
    names = [f"Müller {i}" if many or i == 7 else f"Film {i}" for i in range(ITEMS)]
    items = pl.concat([good_frames()["items"].with_columns(pl.Series("name", names))])
    extra = [] if many else [pl.DataFrame({"item": [f"x{i}" for i in range(300)], "name": "Film", "genre": "Drama"})]
    items = pl.concat([items, *extra])
    path = make(tmp_path)
    (tmp_path / "data" / "items.csv").write_bytes(items.write_csv().encode("cp1252"))
    found = check(path)
    messages = found.problems if many else found.warnings
    first = 2 if many else 9
    assert told(messages, f"items.csv, line {first}", "that utf-8 does not know", 'it may be "cp1252"')
    assert bool(found.problems) == many
    fixed = check(make(tmp_path, toml=(("[items]", '[items]\nencoding = "cp1252"'),)))
    assert not fixed.problems


def test_utf_16_that_does_not_say_which_is_a_problem(tmp_path: Path) -> None:
    path = make(tmp_path, toml=(("[items]", '[items]\nencoding = "utf-16"'),))
    (tmp_path / "data" / "items.csv").write_bytes(good_frames()["items"].write_csv().encode("utf-16-le"))
    found = check(path).problems
    assert told(found, "items.csv is not utf-16", 'set items.encoding, as to "utf-16-le"') and "\n" not in "".join(
        found
    )


def test_a_replacement_character_that_the_file_itself_has_is_no_fault(tmp_path: Path) -> None:
    found = check(
        make(tmp_path, items=good_frames()["items"].with_columns(("M\ufffdller " + pl.col("name")).alias("name")))
    )
    assert (found.problems, found.warnings) == ([], [])


def test_rows_that_cannot_be_split_are_told_with_the_first(tmp_path: Path) -> None:
    path = make(tmp_path)
    for name in ("ratings", "items"):
        file = tmp_path / "data" / f"{name}.csv"
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(line + ",x" if i % 10 == 3 else line for i, line in enumerate(lines)), "utf-8")
    found = check(path)
    assert told(
        found.problems, "ratings.csv, line 4: 150 of 1,500 rows (10.00%) cannot be split (5 fields instead of 4"
    )
    assert told(found.problems, "items.csv, line 4: 3 of 30 rows (10.00%) cannot be split (4 fields instead of 3")


def test_lines_that_are_no_objects_are_told(tmp_path: Path) -> None:
    path = make(tmp_path, "jsonl")
    with (tmp_path / "data" / "users.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"user": "u1"\n')
    assert told(check(path).problems, "users.jsonl, line 61: 1 of 61 rows", "no JSON object")
