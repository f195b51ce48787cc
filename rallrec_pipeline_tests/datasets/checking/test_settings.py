"""What the TOML file itself gets wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline_tests.datasets.brought import told
from rallrec_pipeline_tests.datasets.checking.good_dataset import changed, check, make


def test_every_problem_of_the_settings_is_a_line_of_its_own(tmp_path: Path) -> None:
    toml = (("scale = [1, 2, 3, 4, 5]", "scale = [5, 1]"), ("min_history", "minhistory"), ('kind = "folder"', ""))
    found = check(make(tmp_path, toml=toml))
    assert len(found.problems) == 3 and found.figures == {}
    assert found.warnings == ["the data were not looked at: mend mine.toml and check again"]
    misspelt = "protocol.minhistory: there is no such key, did you mean min_history?"
    for word in ("label: scale must ascend", misspelt, "source.kind: it is missing"):
        assert told(found.problems, "mine.toml", word)


def test_problems_between_parts_are_lines_of_their_own(tmp_path: Path) -> None:
    toml = (("min_history = 5", 'require = ["director"]'), (', timestamp = "when"', ', stars = "when"'))
    found = check(make(tmp_path, toml=toml))
    assert len(found.problems) == 3 and told(found.problems, "director is no item field")
    assert told(found.problems, "not stars") and told(found.problems, 'it must be "user"')


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"title = [", "mine.toml: "),
        (b"\xff\xfe", "mine.toml: it is not UTF-8 text"),
        (None, "it cannot be read (it does not exist)"),
        (b'title = "a"\nsplit = by time', "line 2, column 9): 'split = by time' (text needs quotes)"),
        (b'title = "a"\n[source\nkind = 1', "line 2, column 8): '[source'"),
        (b'[source]\nkind = "folder"\nlocation = "\\u0000"', "is no path"),
        (b'[source]\nkind = "zip"\nlocation = "~nobody-at-all/x"', "is no path"),
    ],
)
def test_a_file_that_is_no_toml_is_one_problem(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    found = check(path)
    assert len(found.problems) == 1 and what in found.problems[0]
    assert bool(found.warnings) is (content is not None), "nothing can be mended in a file that is not there"


def test_a_key_of_the_file_that_stands_in_a_table_is_told_its_place(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(("[label]", "[label]\nmax_rejected = 0.1"),)))
    assert found.problems == ["mine.toml: label.max_rejected: there is no such key: it belongs above the first [table]"]


@pytest.mark.parametrize("key", ['time_format = "%Y"', 'unit = "ms"'])
def test_a_key_of_a_column_that_stands_beside_the_columns_is_told_its_place(tmp_path: Path, key: str) -> None:
    found = check(make(tmp_path, toml=(("[interactions]", f"[interactions]\n{key}"),)))
    assert told(
        found.problems, f"mine.toml: interactions.{key[:4]}", "it belongs to a column: columns = { …, timestamp"
    )


def test_a_file_name_that_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(("ratings.csv", "my ratings.csv"),)))
    assert told(found.problems, "lacks my ratings.csv (it has")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"genre"', '{ column = "genre", pattern = "(?=x)(y)" }', "look-around"),
        ('"when"', '{ column = "when", time_format = "%H" }', "hour and minute"),
    ],
)
def test_a_rule_that_cannot_run_is_told_and_the_rest_is_checked(tmp_path: Path, old: str, new: str, what: str) -> None:
    found = check(make(tmp_path, toml=((f"= {old}", f"= {new}"),), **changed("items", "name", "")))
    assert len(found.problems) == 1 and told(found.problems, "its rules cannot be run", what)
    assert told(found.warnings, "empty title")


def test_a_rule_without_effect_is_a_warning(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(('rating = "stars"', 'rating = { column = "stars", numeric = true }'),)))
    assert not found.problems and told(found.warnings, "interactions.columns.rating: numeric has no effect")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_column_of_the_ratings_that_is_named_twice_is_a_problem(tmp_path: Path, ending: str) -> None:
    found = check(make(tmp_path, ending, toml=(('item_id = "item", rating = "stars"', 'rating = "item"'),)))
    assert told(found.problems, "lacks the column 'item_id'") or told(found.problems, "nothing in the field 'item_id'")
    found = check(make(tmp_path, ending, toml=(('timestamp = "when"', 'timestamp = "stars"'),)))
    same = "interactions.columns: rating and timestamp are both 'stars': name the right column of each"
    assert found.problems[0] == same


def test_two_fields_of_one_column_are_a_warning_where_they_say_the_same(tmp_path: Path) -> None:
    same = check(make(tmp_path, toml=(('genre = "genre"', 'genre = "name"'),)))
    assert same.problems == [] and same.warnings == [
        "items.columns: title and genre are both 'name', so they say the same: correct one or take it out"
    ]
    parts = ('genre = "genre"', 'genre = { column = "name", pattern = "(Film)" }')
    assert check(make(tmp_path, toml=(parts,))).warnings == []


@pytest.mark.parametrize("encoding", ["hex", "zlib", "undefined"])
def test_an_encoding_that_reads_no_text_is_a_problem(tmp_path: Path, encoding: str) -> None:
    found = check(make(tmp_path, toml=(("[items]", f'[items]\nencoding = "{encoding}"'),)))
    assert told(found.problems, f"encoding '{encoding}' is unknown")
