"""`rallrec check`: every fault of a TOML file and of its files is told, all at once, each in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import BUILT_IN
from rallrec_pipeline.datasets.check import CheckReport, check_dataset

TOML = """
title = "Mine"

[source]
kind = "folder"
location = "{folder}"

[interactions]
file = "ratings.{ending}"
columns = {{ user_id = "user", item_id = "item", rating = "stars", timestamp = "when" }}

[items]
file = "items.{ending}"
columns = {{ item_id = "item", title = "name", genre = "genre" }}

[users]
file = "users.{ending}"
columns = {{ user_id = "user", age = "age" }}

[protocol]
min_history = 5

[label]
scale = [1, 2, 3, 4, 5]
like_above = 3
"""
USERS, ITEMS, EACH, START = 60, 30, 25, 1_600_000_000
TABLES = ("ratings", "items", "users")

Frames = dict[str, pl.DataFrame]
Change = Callable[[pl.Expr], pl.Expr]


@cache
def good_frames(users: int = USERS) -> Frames:
    """A dataset without a fault: each user rates 25 of 30 items, from 1 to 5."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(ITEMS)[:EACH] for _ in range(users)])
    n = users * EACH
    ratings = pl.DataFrame(
        {
            "user": [f"u{i // EACH}" for i in range(n)],
            "item": [f"i{i}" for i in items],
            "stars": rng.integers(1, 6, n),
            "when": START + 100 * rng.permutation(n),
        }
    )
    names = {"item": [f"i{i}" for i in range(ITEMS)], "name": [f"Film {i}" for i in range(ITEMS)]}
    catalogue = pl.DataFrame(names).with_columns(pl.lit("Drama").alias("genre"))
    people = pl.DataFrame({"user": [f"u{i}" for i in range(users)], "age": [20 + i % 50 for i in range(users)]})
    return {"ratings": ratings, "items": catalogue, "users": people}


def write(path: Path, frame: pl.DataFrame) -> None:
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)


def make(
    root: Path, ending: str = "csv", toml: tuple[tuple[str, str], ...] = (), raters: int = USERS, **frames: pl.DataFrame
) -> Path:
    """The TOML file of a dataset whose files lie in `root/data`; `toml` replaces parts of its text."""
    folder = root / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (good_frames(raters) | frames).items():
        write(folder / f"{name}.{ending}", frame)
    text = TOML.format(folder=folder.as_posix(), ending=ending)
    for old, new in toml:
        assert old in text
        text = text.replace(old, new)
    path = root / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def check(path: Path) -> CheckReport:
    found = check_dataset(path, path.parent / "lake")
    lines = [*found.problems, *found.warnings]
    assert all(len(line.splitlines()) == 1 and ".check-" not in line for line in lines)
    return found


def told(messages: list[str], *words: str) -> bool:
    """Whether one message has all of `words`."""
    return any(all(word in message for word in words) for message in messages)


def nth(n: int) -> pl.Expr:
    return pl.int_range(pl.len()) % n == 0


def some(column: str, value: object, n: int = 10) -> Change:
    """Every n-th value of a column is another."""
    return lambda _: pl.when(nth(n)).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String)).alias(column)


def changed(name: str, column: str, value: object, n: int = 10) -> Frames:
    return {name: good_frames()[name].with_columns(some(column, value, n)(pl.col(column)))}


# --- good datasets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_good_dataset_has_no_problem_and_its_figures_are_those_of_the_stages(tmp_path: Path, ending: str) -> None:
    found = check(make(tmp_path, ending))
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["rows"] == {"interactions": 1500, "items": 30, "users": 60}
    assert (found.figures["users"], found.figures["items"], found.figures["refused"]) == (60, 30, {})
    made = found.figures["protocols"]["only"]
    assert (made["interactions"], made["samples"], made["train"], made["valid"], made["test"]) == (
        1500, 1200, 960, 120, 120,
    )  # fmt: skip
    assert 0.3 < made["liked"] < 0.5


def test_implicit_feedback_and_dates_are_good_too(tmp_path: Path) -> None:
    when = pl.from_epoch("when").dt.strftime("%Y-%m-%d %H:%M:%S")
    toml = (
        ('rating = "stars", timestamp = "when"', 'timestamp = { column = "when", time_format = "%Y-%m-%d %H:%M:%S" }'),
        ("scale = [1, 2, 3, 4, 5]\nlike_above = 3", "negatives = 1"),
    )
    found = check(make(tmp_path, toml=toml, ratings=good_frames()["ratings"].with_columns(when)))
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["protocols"]["only"]["liked"] == pytest.approx(0.5, abs=0.01)


def test_a_dataset_without_users_needs_no_users(tmp_path: Path) -> None:
    path = make(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[users]")] + text[text.index("[protocol]") :], encoding="utf-8")
    found = check(path)
    assert (found.problems, found.warnings) == ([], []) and "users" not in found.figures["rows"]


def test_every_protocol_is_checked(tmp_path: Path) -> None:
    protocols = "[protocols.easy]\nuser_core = 1\n[protocols.hard]\nuser_core = 26\n"
    found = check(make(tmp_path, toml=(("[protocol]\nmin_history = 5\n", protocols),)))
    assert len(found.problems) == 1 and told(found.problems, "protocol hard: nothing is left after the core")
    assert found.figures["protocols"]["easy"]["samples"] == 1200
    assert found.figures["protocols"]["hard"]["interactions"] == 0


def test_real_movielens_has_no_problem(movielens: Path) -> None:
    found = check_dataset(BUILT_IN / "movielens-100k.toml", movielens.parents[1])
    assert (found.problems, found.warnings) == ([], [])
    assert found.figures["protocols"]["five_core"]["samples"] == 94_572


# --- settings ----------------------------------------------------------------------------------------------------


def test_every_problem_of_the_settings_is_a_line_of_its_own(tmp_path: Path) -> None:
    toml = (("scale = [1, 2, 3, 4, 5]", "scale = [5, 1]"), ("min_history", "minhistory"), ('kind = "folder"', ""))
    found = check(make(tmp_path, toml=toml))
    assert len(found.problems) == 3 and found.figures == {}
    for word in ("label: scale must ascend", "protocols.only.minhistory", "source.kind: it is missing"):
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
        (b"\xff\xfe", "mine.toml: 'utf-8' codec"),
        (None, "No such file"),
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


def test_a_file_name_that_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(("ratings.csv", "my ratings.csv"),)))
    assert told(found.problems, "not 'my ratings.csv'")


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


@pytest.mark.parametrize("encoding", ["hex", "zlib", "undefined"])
def test_an_encoding_that_reads_no_text_is_a_problem(tmp_path: Path, encoding: str) -> None:
    found = check(make(tmp_path, toml=(("[items]", f'[items]\nencoding = "{encoding}"'),)))
    assert told(found.problems, f"encoding '{encoding}' is unknown")


# --- places ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_missing_is_one_problem_and_the_others_are_checked(tmp_path: Path) -> None:
    path = make(tmp_path, **changed("ratings", "stars", "9"))
    (tmp_path / "data" / "items.csv").unlink()
    (tmp_path / "data" / "users.csv").rename(tmp_path / "data" / "people.csv")
    found = check(path)
    assert told(found.problems, f"the folder {tmp_path / 'data'} lacks items.csv, users.csv", "'people.csv'")
    assert told(found.problems, "off the scale") and found.figures["protocols"]


def test_a_folder_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, toml=(("/data", "/elsewhere"),)))
    assert found.problems == [f"there is no folder {tmp_path / 'elsewhere'}: correct source.location"]


@pytest.mark.parametrize("in_catalogue", [False, True])
def test_a_source_that_is_not_fetched_is_one_problem_that_says_how(tmp_path: Path, in_catalogue: bool) -> None:
    path = make(tmp_path, toml=(('kind = "folder"', 'kind = "zip"'),))
    lake = tmp_path / "lake"
    if in_catalogue:
        (lake / "catalog").mkdir(parents=True)
        path = path.rename(lake / "catalog" / path.name)
    found = check_dataset(path, lake)
    assert len(found.problems) == 1
    assert f"{lake / 'raw' / 'mine'} lacks ratings.csv, items.csv, users.csv: not fetched yet" in found.problems[0]
    assert "run `rallrec run mine --select raw_files`" in found.problems[0]
    assert (f"put mine.toml into {lake / 'catalog'}" in found.problems[0]) != in_catalogue
    (lake / "raw").mkdir(parents=True)
    (tmp_path / "data").rename(lake / "raw" / "mine")
    assert check_dataset(path, lake).problems == []


def test_a_checksum_that_differs_is_a_problem(tmp_path: Path) -> None:
    files = ", ".join(f'{{ name = "{name}.csv", sha256 = "{"0" * 64}" }}' for name in TABLES)
    found = check(make(tmp_path, toml=(('kind = "folder"', f'kind = "folder"\nfiles = [{files}]'),)))
    assert len(found.problems) == 3 and all("has SHA-256" in line for line in found.problems)


def test_a_member_of_a_folder_is_read_under_its_name(tmp_path: Path) -> None:
    names = ("ratings", "items", "users")
    files = ", ".join(f'{{ name = "{name}.csv", member = "deep/{name}.txt" }}' for name in names)
    path = make(tmp_path, toml=(('kind = "folder"', f'kind = "folder"\nfiles = [{files}]'),))
    (tmp_path / "data" / "deep").mkdir()
    for name in names:
        (tmp_path / "data" / f"{name}.csv").rename(tmp_path / "data" / "deep" / f"{name}.txt")
    assert check(path).problems == []
    (tmp_path / "data" / "deep" / "items.txt").unlink()
    assert told(check(path).problems, "lacks deep/items.txt")


def test_a_relative_place_is_a_warning_until_the_file_is_in_the_catalogue(tmp_path: Path) -> None:
    path = make(tmp_path, toml=((f"{tmp_path.as_posix()}/data", "data"),))
    found = check(path)
    assert not found.problems and told(found.warnings, "source.location 'data'", str(tmp_path / "data"))


@pytest.mark.parametrize("has_lake", [False, True])
def test_nothing_is_left_behind(tmp_path: Path, has_lake: bool) -> None:
    path = make(tmp_path, **changed("ratings", "stars", "9"))
    if has_lake:
        (tmp_path / "lake").mkdir()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    check(path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file != tmp_path / "lake"} == {
        file: time for file, time in before.items() if file != tmp_path / "lake"
    }


# --- columns and bytes -------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("layout", ["array", "pretty"])
def test_json_that_is_not_lines_is_recognised(tmp_path: Path, layout: str) -> None:
    path = make(tmp_path, "jsonl")
    rows = good_frames()["items"].to_dicts()
    text = json.dumps(rows) if layout == "array" else "\n".join(json.dumps(row, indent=1) for row in rows)
    (tmp_path / "data" / "items.jsonl").write_text(text, encoding="utf-8")
    assert told(check(path).problems, "items.jsonl", "one JSON object per line")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1f\x8b\x08\x00rest", "items.csv is gzip, not csv: unpack it"),
        (b"PK\x03\x04rest", "items.csv is a zip, not csv: unpack it"),
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


# --- ratings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("stars", "n/a", "have a rating that is no number, as 'n/a': correct interactions.columns.rating"),
        ("stars", "6", "have a rating off the scale, as '6': the file holds 1, 2, 3, 4, 5, 6, label.scale allows 1, 2"),
        ("when", "soon", "have an impossible timestamp, as 'soon'"),
        ("when", "-5", "have an impossible timestamp, as '-5'"),
        ("user", " ", "have an empty user id"),
        ("item", "", "have an empty item id"),
        ("item", "x9", "are of items that items."),
    ],
)
def test_ratings_that_are_refused_are_told_with_their_share(
    tmp_path: Path, ending: str, column: str, value: str, what: str
) -> None:
    found = check(make(tmp_path, ending, **changed("ratings", column, value)))
    place = f"ratings.{ending}, {'row 1' if ending == 'parquet' else 'line 2' if ending == 'csv' else 'line 1'}:"
    assert told(found.problems, f"{place} 150 of 1,500 ratings (10.00%) {what}")
    share = "150 of 1,500 ratings (10.00%) are refused altogether"
    assert told(found.problems, f"{share}, max_rejected (at the top of the TOML file) allows 1.0%")
    assert len(found.problems) == 2
    assert sum(found.figures["refused"].values()) == 150


def test_a_few_refused_ratings_are_warnings(tmp_path: Path) -> None:
    frames = changed("ratings", "stars", "n/a", 200)
    found = check(make(tmp_path, **frames))
    assert not found.problems and told(found.warnings, "8 of 1,500 ratings (0.53%) have a rating that is no number")
    strict = check(make(tmp_path, toml=(('title = "Mine"', 'title = "Mine"\nmax_rejected = 0.001'),), **frames))
    assert len(strict.problems) == 2


@pytest.mark.parametrize(
    ("form", "what"),
    [
        ("ms", 'these look like milliseconds, set unit = "ms"'),
        ("us", 'these look like microseconds, set unit = "us"'),
        ("%Y-%m-%d", 'set time_format = "%Y-%m-%d"'),
        ("%Y-%m-%d %H:%M:%S", 'set time_format = "%Y-%m-%d %H:%M:%S"'),
        ("%Y-%m-%dT%H:%M:%SZ", 'set time_format = "%Y-%m-%dT%H:%M:%SZ"'),
        ("%m/%d/%Y", 'set time_format = "%m/%d/%Y"'),
        ("%d/%m/%Y", 'set time_format = "%d/%m/%Y"'),
        ("%m %d, %Y", 'set time_format = "%m %d, %Y"'),
    ],
)
def test_times_in_another_form_are_recognised(tmp_path: Path, form: str, what: str) -> None:
    times = START + 86_400 * 3 * pl.int_range(pl.len())  # ten years, so that days of all months come
    scale = {"ms": 1000, "us": 1_000_000}.get(form)
    when = times * scale if scale else pl.from_epoch(times).dt.strftime(form)
    ratings = good_frames()["ratings"].with_columns(when.alias("when")).sample(fraction=1, shuffle=True, seed=0)
    found = check(make(tmp_path, ratings=ratings))
    assert told(
        found.problems, "ratings.csv, line 2: 1,500 of 1,500 ratings (100.00%) have an impossible timestamp", what
    )
    option = what[what.index("set ") + 4 :]
    mended = ('timestamp = "when"', f'timestamp = {{ column = "when", {option} }}')
    assert check(make(tmp_path, toml=(mended,), ratings=ratings)).problems == []


def test_seconds_read_as_dates_are_recognised(tmp_path: Path) -> None:
    wrong = ('timestamp = "when"', 'timestamp = { column = "when", time_format = "%Y-%m-%d" }')
    found = check(make(tmp_path, toml=(wrong,)))
    assert told(found.problems, "impossible timestamp", 'set unit = "s" and take time_format out')


@pytest.mark.parametrize(
    ("toml", "when", "what"),
    [
        ('"when"', pl.from_epoch("when").dt.strftime("%Y%m%d"), 'set time_format = "%Y%m%d"'),
        ('{ column = "when", unit = "ms" }', pl.col("when"), 'set unit = "s"'),
    ],
)
def test_possible_times_in_another_unit_are_warnings(tmp_path: Path, toml: str, when: pl.Expr, what: str) -> None:
    ratings = good_frames()["ratings"].with_columns(when.alias("when"))
    found = check(make(tmp_path, toml=(('timestamp = "when"', f"timestamp = {toml}"),), ratings=ratings))
    assert told(found.warnings, "all times lie before 1980", what)


def test_small_numbers_may_be_times_of_their_own_kind(tmp_path: Path) -> None:
    ratings = good_frames()["ratings"].with_columns(pl.col("when") - START)
    found = check(make(tmp_path, ratings=ratings))
    assert (found.problems, found.warnings) == ([], [])


def test_unknown_items_that_are_kept_are_a_warning(tmp_path: Path) -> None:
    keep = ('title = "Mine"', 'title = "Mine"\nunknown_items = "keep"')
    found = check(make(tmp_path, toml=(keep,), **changed("ratings", "item", "x9")))
    assert not told(found.problems, "x9") and told(found.warnings, "150 of 1,500", "'x9'", "stay without a title")


def test_ids_that_are_written_differently_are_shown(tmp_path: Path) -> None:
    items = good_frames()["items"].with_columns(pl.col("item") + ".0")
    assert told(check(make(tmp_path, items=items)).problems, "1,500 of 1,500", "(it lists 'i0.0', 'i1.0', 'i2.0')")


def test_repeated_ratings_are_a_warning_with_the_policy(tmp_path: Path) -> None:
    frame = good_frames()["ratings"]
    found = check(make(tmp_path, ratings=pl.concat([frame, frame.tail(5)])))
    assert not found.problems
    assert told(found.warnings, "5 of 1,505 ratings (0.33%) are repeated later by the same user", "the latest")
    many = check(make(tmp_path, ratings=pl.concat([frame, frame])))
    assert told(many.problems, "1,500 of 3,000 ratings (50.00%) are refused altogether")


# --- items and users ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_ids_that_come_twice_and_differ_are_a_problem(tmp_path: Path, ending: str) -> None:
    items, users = good_frames()["items"], good_frames()["users"]
    again = items.head(2).with_columns(pl.lit("Other").alias("name"))
    found = check(make(tmp_path, ending, items=pl.concat([items, again]), users=pl.concat([users, users.head(1)])))
    assert len(found.problems) == 1 and len(found.warnings) == 1
    assert told(found.problems, f"items.{ending}", "2 of 30 ids come more than once", "as 'i0', 'i1'", "the first row")
    assert told(found.warnings, f"users.{ending}", "1 of 61 rows (1.64%) say an earlier row's user_id again")


def test_empty_ids_of_items_are_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, users=good_frames()["users"].with_columns(some("user", "", 20)(pl.col("user")))))
    assert told(found.problems, "users.csv, line 2: 3 of 60 rows (5.00%) have an empty user_id")


def test_empty_titles_are_a_warning_and_no_titles_a_problem(tmp_path: Path) -> None:
    found = check(make(tmp_path, **changed("items", "name", "")))
    assert not found.problems and told(found.warnings, "items.csv, line 2: 3 of 30 items (10.00%) have an empty title")
    assert told(
        check(make(tmp_path, **changed("items", "name", "", 1))).problems, "items.csv: title is empty in all rows"
    )


@pytest.mark.parametrize(
    "rule", ["pick = 2", "split = ',', pick = 4", "pattern = '(\\d+)'", "numeric = true", "length = 3"]
)
def test_a_rule_that_makes_a_field_empty_everywhere_is_a_problem(tmp_path: Path, rule: str) -> None:
    found = check(make(tmp_path, toml=(('genre = "genre"', f'genre = {{ column = "genre", {rule} }}'),)))
    names = ", ".join(sorted(part.split(" = ")[0] for part in rule.split(", ") if " = " in part))
    assert len(found.problems) == 1
    assert told(found.problems, "items.columns.genre makes nothing of 30 of 30", "as 'Drama'", f"correct {names}")


def test_a_rule_that_loses_most_of_a_field_is_a_warning(tmp_path: Path) -> None:
    users = good_frames()["users"].with_columns(some("age", "old", 1)(pl.col("age")))[:50]
    users = pl.concat([users, good_frames()["users"][50:].cast(pl.String)])
    found = check(make(tmp_path, toml=(('age = "age"', 'age = { column = "age", numeric = true }'),), users=users))
    assert not found.problems and told(found.warnings, "users.columns.age makes nothing of 50 of 60", "as 'old'")


def test_raters_without_a_profile_are_a_warning(tmp_path: Path) -> None:
    found = check(make(tmp_path, users=good_frames()["users"].head(45)))
    assert not found.problems and told(found.warnings, "users.csv: 15 of 60 users (25.00%) with ratings have no row")


def test_text_of_the_files_is_cleaned(tmp_path: Path) -> None:
    found = check(make(tmp_path, **changed("ratings", "stars", "\x1b[31mred\x07 <|im_start|>")))
    assert told(found.problems, "as '[31mred (|im_start|>'")
    assert "\x1b" not in "".join(found.problems)


# --- protocols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "what"),
    [
        (("min_history = 5", "user_core = 26"), ("nothing is left after the core", "more than 25", "user_core = 26")),
        (("min_history = 5", "user_cap = 3"), ("nothing is left after the core", "or change user_cap")),
        (("min_history = 5", "min_history = 25"), ("no samples, no user has more than 25 ratings", "now 25")),
        (("min_history = 5", "fractions = [1, 0, 0]"), ("the valid split has no samples",)),
        (("min_history = 5", "min_history = 5\ndrop_ratings = [1, 2, 3]"), ("the rule likes every sample", "now 3")),
        (
            ("scale = [1, 2, 3, 4, 5]\nlike_above = 3", "scale = [1, 2, 3, 4, 5, 6]\nlike_above = 5"),
            ("the rule likes no sample", "change like_above, now 5"),
        ),
    ],
)
def test_a_protocol_that_leaves_nothing_to_learn_is_a_problem(
    tmp_path: Path, toml: tuple[str, str], what: tuple[str, ...]
) -> None:
    found = check(make(tmp_path, toml=(toml,)))
    assert told(found.problems, "protocol only: ", *what)


def test_a_split_of_one_class_and_a_share_of_likes_out_of_bounds_are_problems(tmp_path: Path) -> None:
    late = pl.col("when").rank() > 0.85 * pl.len()
    rare = pl.when(late).then(1).when(nth(20)).then(5).otherwise(1)
    found = check(make(tmp_path, ratings=good_frames()["ratings"].with_columns(rare.alias("stars"))))
    assert told(found.problems, "the test split has 120 samples, none of them liked")
    assert told(found.problems, "the train split has", "not between 10% and 90%")


def test_few_test_samples_are_a_warning(tmp_path: Path) -> None:
    found = check(make(tmp_path, raters=20))
    assert not found.problems and told(found.warnings, "the test split has only 40 samples")
    first = check(make(tmp_path, toml=(("min_history = 5", "first_test_samples = 50"),)))
    assert not first.problems and told(first.warnings, "the test split has only 50 samples")


def test_a_required_field_that_is_missing_is_told_once(tmp_path: Path) -> None:
    path = make(
        tmp_path, toml=(("min_history = 5", 'require = ["genre"]'),), items=good_frames()["items"].drop("genre")
    )
    found = check(path)
    assert len(found.problems) == 1 and found.figures["protocols"] == {}


# --- all at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_many_faults_are_all_told(tmp_path: Path, ending: str) -> None:
    frames = good_frames()
    ratings = frames["ratings"].with_columns(
        some("stars", "9", 7)(pl.col("stars")),
        pl.when(nth(5)).then(pl.lit("")).otherwise("user").alias("user"),
        (pl.col("when") * 1000).alias("when"),
    )
    items = pl.concat([frames["items"], frames["items"].head(1).with_columns(pl.lit("Other").alias("name"))])
    users = frames["users"].drop("age")
    found = check(
        make(tmp_path, ending, ratings=ratings, items=items.with_columns(pl.lit("").alias("genre")), users=users)
    )
    for words in (
        ("off the scale", "'9'"),
        ("empty user id",),
        ("impossible timestamp", 'unit = "ms"'),
        ("refused altogether",),
        ("come more than once",),
        ("genre is empty in all rows",),
        ("'age' (for age)",),
        ("no rating is left",),
    ):
        assert told(found.problems, *words), words


TEXT = st.text(st.sampled_from('ui0129,";:\t\n\r\\{}[]é\x00 '), max_size=80).map(str.encode)
STARTS = {
    "ratings.csv": b"user,item,stars,when\n", "items.csv": b"item,name,genre\n", "users.csv": b'"user",age\n',
    "ratings.jsonl": b'{"user": "u1", "item": "i1", "stars": 5, "when": 1600000000}\n',
    "items.jsonl": b'{"item": "i1", "name": ["x"], "genre": {"x": "y"}}\n', "users.jsonl": b'{"user": 1, "age": 2}\n',
}  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(TABLES), st.sampled_from(["csv", "jsonl", "parquet"]), st.binary(max_size=80) | TEXT)
def test_arbitrary_bytes_as_any_file_are_problems(name: str, ending: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), ending, raters=6)
        (Path(folder) / "data" / f"{name}.{ending}").write_bytes(content)
        assert told(check(path).problems, f"{name}.{ending}")


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(STARTS)), st.binary(max_size=120) | TEXT)
def test_arbitrary_rows_below_a_good_start_never_stop_the_check(name: str, content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), name.split(".")[1], raters=6)
        (Path(folder) / "data" / name).write_bytes(STARTS[name] + content)
        assert check(path).figures["rows"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TABLES), st.integers(0, 4000))
def test_a_file_cut_anywhere_never_stops_the_check(name: str, size: int) -> None:
    with TemporaryDirectory() as folder:
        path = make(Path(folder), "parquet", raters=6)
        file = Path(folder) / "data" / f"{name}.parquet"
        whole = file.read_bytes()
        file.write_bytes(whole[:size])
        assert told(check(path).problems, f"{name}.parquet") or size >= len(whole)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_as_the_toml_file_are_problems(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(content)
        assert check(path).problems


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_what_is_ready_and_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "lake"
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    path = make(tmp_path)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 0, done.output
    assert f"ready: put it into {lake / 'catalog'}/ and run `rallrec run mine`" in done.output
    for words in (("ratings", "1,500"), ("samples", "1,200"), ("liked", "%")):
        assert told(done.output.splitlines(), *words)
    (lake / "catalog").mkdir(parents=True)
    listed = CliRunner().invoke(app, ["check", str(path.rename(lake / "catalog" / "mine.toml"))])
    assert listed.exit_code == 0 and "ready: run `rallrec run mine`" in listed.output


def test_the_command_fails_on_problems_and_reads_no_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "lake"))
    frames = changed("ratings", "stars", "[red]x[/blue]")
    done = CliRunner().invoke(app, ["check", str(make(tmp_path, **frames))])
    assert done.exit_code == 1, done.output
    assert "✗ ratings.csv, line 2: 150 of 1,500 ratings (10.00%) have a rating that is no number" in done.output
    assert "'[red]x[/blue]'" in done.output and "not ready: 2 problems" in done.output
    assert told(done.output.splitlines(), "left out of ratings.csv: rating is not a number", "150")


def test_the_command_works_without_dagster(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom rallrec_pipeline.cli import app\n"
        "try:\n    app()\nfinally:\n    print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'dagster', 'torch', 'sklearn', 'transformers'}))"
    )
    environment = os.environ | {"RALLREC_LAKE": str(tmp_path / "lake")}
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(make(tmp_path))],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
