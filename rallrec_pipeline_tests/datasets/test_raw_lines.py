"""Lines of an item in the raw files of every format: the numbers are those of the file itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.datasets.raw_lines import SHOWN, RawLine, RawLines, find_lines
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.formats import FORMATS, files_of, make_spec

ITEMS = [["a", "First", "x|y"], ["b", "Zweites é", "x|y"], ["bb", "Third", "x|y"]]
RATINGS = [[f"u{n}", "b" if n % 3 else "a", "4", str(1000 + n)] for n in range(12)]
USERS = [[f"u{n}", "Ulm"] for n in range(12)]


def find(folder: Path, files: dict[str, bytes], kind: str, value: str, ending: str = "csv", **changes: Any) -> RawLines:
    raw = folder / "raw" / "mine"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    spec = make_spec(ending, **changes)
    found = find_lines(spec, folder, getattr(spec, kind), "item_id", value)
    assert sorted(path.name for path in raw.iterdir()) == sorted(files), "nothing is left behind"
    return found


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_every_format(ending: str, tmp_path: Path) -> None:
    files = files_of(ending, RATINGS, ITEMS, USERS)
    first = 1 if ending in ("jsonl", "parquet") else 2  # after the header
    item = find(tmp_path, files, "items", "b", ending)
    assert (item.file, item.count) == (f"items.{ending}", 1)
    assert item.unit == ("row" if ending == "parquet" else "line")
    assert item.first[0].line == first + 1
    ratings = find(tmp_path, files, "interactions", "b", ending)
    assert ratings.count == sum(row[1] == "b" for row in RATINGS) == 8
    assert [line.line for line in ratings.first] == [n + first for n in (1, 2, 4)]
    if ending == "parquet":
        assert item.first[0].text == "b | Zweites é | x|y"
        return
    encoding = FORMATS[ending].get("encoding", "utf-8")
    lines = files[f"items.{ending}"].decode(encoding).replace("\r\n", "\n").split("\n")
    assert item.first[0].text == lines[item.first[0].line - 1]


def test_a_record_of_several_lines_has_the_number_of_its_first(tmp_path: Path) -> None:
    items = b'what,name,tags\na,"one\nof two",x\n\nb,"two ""of"" three\nlines, with a comma",y\na,again,z\n'
    files = files_of("csv", RATINGS, ITEMS, USERS) | {"items.csv": items}
    found = find(tmp_path, files, "items", "b")
    assert found.first == [RawLine(5, 'b,"two ""of"" three\nlines, with a comma",y')]
    repeated = find(tmp_path, files, "items", "a")
    assert repeated.count == 2 and [line.line for line in repeated.first] == [2, 7]


def test_ids_are_found_as_the_tables_have_them(tmp_path: Path) -> None:
    files = files_of("csv", RATINGS, ITEMS, USERS) | {"items.csv": b"what,name,tags\n a ,spaced,x\nA,large,x\n"}
    assert [line.line for line in find(tmp_path, files, "items", "a").first] == [2]
    assert find(tmp_path, files, "items", "nothing").first == []


def test_many_lines_are_counted_and_few_kept(tmp_path: Path) -> None:
    rows = [[f"u{n}", "a", "4", "1000"] for n in range(500)]
    found = find(tmp_path, files_of("csv", rows, ITEMS, USERS), "interactions", "a")
    assert found.count == 500 and [line.line for line in found.first] == list(range(2, 2 + SHOWN))


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    found = find(tmp_path, files_of("csv", RATINGS, ITEMS, USERS), "items", "bb")
    assert found.first == [RawLine(4, "bb,Third,x|y")]


def test_a_missing_file_and_a_missing_column_are_one_line(tmp_path: Path) -> None:
    for files, what in (({}, "lacks items.csv"), ({"items.csv": b"other,name,tags\n"}, "must have what")):
        with pytest.raises(DataError, match=what) as caught:
            find(tmp_path, files, "items", "a")
        assert "\n" not in str(caught.value)
