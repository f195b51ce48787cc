"""The reader of every format: nothing but DataError, no row lost, and the same tables whatever the format."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import in_protocol_order
from rallrec_pipeline.datasets.kcore import core_of, k_core
from rallrec_pipeline.datasets.lines import open_lines
from rallrec_pipeline.datasets.protocol_spec import ProtocolSpec
from rallrec_pipeline.datasets.tables import OFF_SCALE, REPEATED, Repeats, bad_ratings, refused_ratings
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.formats import COLUMNS, FORMATS, encode, files_of, make_spec, read

BY_USER = ProtocolSpec(split="user")
PLAIN = st.text(st.characters(codec="latin-1", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=6)
WORD = PLAIN.filter(lambda word: not set(word) & set('\t:|"\\;,\x1f[{') and word != "NULL")
WILD = st.lists(st.sampled_from(["a", "é", '"', ",", ";", "\\", "\n", "\r\n", " b"]), min_size=1, max_size=6).map(
    lambda parts: "x" + "".join(parts) + "x"
)


@settings(max_examples=15)
@given(st.data(), st.sampled_from(sorted(FORMATS)))
def test_well_formed_files_of_every_format_come_back_whole(data: st.DataObject, ending: str) -> None:
    title = WILD if ending in ("csv", "tsv", "semicolon.csv", "jsonl", "parquet") else WORD
    if ending == "semicolon.csv":  # the dump's files hold no line end within a field
        title = title.map(lambda text: text.replace("\r", "").replace("\n", ""))
    titles = data.draw(st.dictionaries(WORD, title, min_size=1, max_size=4))
    users = data.draw(st.lists(WORD, unique=True, min_size=1, max_size=4))
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(list(titles))), unique=True))
    found = read(
        make_spec(ending),
        files_of(
            ending,
            [[u, i, str(n % 5 + 1), str(1000 + n)] for n, (u, i) in enumerate(pairs)],
            [[i, text, "one|two"] for i, text in titles.items()],
            [[u, "here"] for u in users],
        ),
    )
    assert found.rejected.is_empty()
    assert found.interactions.rows() == [(u, i, float(n % 5 + 1), 1000 + n, 0) for n, (u, i) in enumerate(pairs)]
    said = {item: text.replace("\r\n", "\n").strip() for item, text in titles.items()}
    assert {i: t.replace("\r\n", "\n") for i, t, _ in found.items.rows()} == said
    assert set(found.items["tags"]) == {"one, two"} and found.users.rows() == [(u, "here") for u in users]


@settings(max_examples=40)
@given(st.sampled_from(sorted(FORMATS)), st.sampled_from(["interactions", "items", "users"]), st.binary(max_size=200))
def test_arbitrary_bytes_raise_a_one_line_data_error_or_are_refused(ending: str, table: str, content: bytes) -> None:
    good = files_of(ending, [["u", "i", "5", "7"]], [["i", "Title", "a"]], [["u", "here"]])
    file = f"{table}.{ending}"
    message = file
    try:
        read(make_spec(ending), good | {file: content})
    except DataError as error:
        message = str(error)
    assert file in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("column", "written", "seconds"),
    [
        ({"column": "when", "unit": "ms"}, "1500", 1),
        ({"column": "when", "unit": "ns"}, "1589460405999999999", 1_589_460_406),
        ({"column": "when", "time_format": "%Y-%m-%dT%H:%M:%S%z"}, "1970-01-01T00:01:00Z", 60),
        ({"column": "when", "time_format": "%Y-%m-%dT%H:%M:%S%z"}, "1970-01-01T02:01:00+02:00", 60),
        ({"column": "when", "time_format": "%Y-%m-%d"}, "1970-01-02", 86_400),
        ({"column": "when", "time_format": "%d.%m.%Y %H:%M"}, "01.01.1970 00:01", 60),
    ],
)
def test_timestamps_have_a_unit_or_a_format(column: dict[str, str], written: str, seconds: int) -> None:
    columns = {**COLUMNS["interactions"], "timestamp": column}
    spec = make_spec("csv", interactions={"file": "interactions.csv", "columns": columns})
    found = read(spec, files_of("csv", [["u", "i", "5", written], ["u", "i", "5", "x"]], [["i", "T", ""]], []))
    assert found.interactions["timestamp"].to_list() == [seconds]
    assert found.rejected["reason"].to_list() == ["impossible timestamp"]


def test_milliseconds_taken_for_seconds_are_impossible_times() -> None:
    found = read(make_spec("csv"), files_of("csv", [["u", "i", "5", "1589460405555"]], [["i", "T", ""]], []))
    assert found.rejected["reason"].to_list() == ["impossible timestamp"]


@pytest.mark.parametrize(
    ("column", "raw", "said"),
    [
        ({"split": "|"}, "a| b||c", "a, b, c"),
        ({"split": "|", "pick": 2}, "a|b|c", "b"),
        ({"split": "|", "pick": 3}, "a||c", "c"),
        ({"split": "|", "length": 3, "pick": 3}, "a||c", "c"),
        ({"split": "|", "pick": -1}, "a|b|c", "c"),
        ({"split": "|", "pick": 4}, "a|b|c", ""),
        ({"split": "|", "length": 3, "pick": 3}, "a|b|c", "c"),
        ({"split": "|", "length": 3, "pick": 3}, "a|b", ""),
        ({"values": {"1": "one"}}, "1", "one"),
        ({"values": {"1": "one"}}, "2", "2"),
        ({"pattern": r"\((\d{4})\)$"}, "Toy Story (1995)", "1995"),
        ({"pattern": r"\((\d{4})\)$"}, "Toy Story", ""),
        ({"numeric": True}, "12.5", "12.5"),
        ({"numeric": True}, "twelve", ""),
        ({"bounds": [5, 100]}, "101", ""),
        ({"buckets": [18, 25]}, "17", "under 18"),
        ({"buckets": [18, 25]}, "18", "18-24"),
        ({"buckets": [18, 25]}, "99", "25+"),
        ({"buckets": [18, 25]}, "x", ""),
        ({"move_article": True}, "Postman, The", "The Postman"),
    ],
)
def test_a_column_is_read_as_its_settings_say(column: dict[str, Any], raw: str, said: str) -> None:
    items = {"file": "items.csv", "columns": {"item_id": "what", "title": "name", "tags": {"column": "tags", **column}}}
    found = read(make_spec("csv", items=items), files_of("csv", [], [["i", "T", raw]], []))
    assert found.items["tags"].to_list() == [said]


def test_parts_of_a_second_order_the_ratings_of_a_user() -> None:
    columns = {**COLUMNS["interactions"], "timestamp": {"column": "when", "unit": "ms"}}
    spec = make_spec("csv", interactions={"file": "interactions.csv", "columns": columns})
    times = {"a": 5_900, "b": 5_100, "c": 5_000, "d": 4_999, "e": 5_000}
    files = files_of(
        "csv", [["u", item, "3", str(time)] for item, time in times.items()], [[i, "T", ""] for i in times], []
    )
    ratings = read(spec, files).interactions
    assert ratings.select("timestamp", "microsecond").rows()[0] == (5, 900_000)
    for rows in (ratings, ratings.reverse()):
        core = in_protocol_order(k_core(rows, 1, 1), spec.protocol, 0)
        assert core["item_id"].to_list() == ["d", "c", "e", "b", "a"]
        assert core.columns == ["user_id", "item_id", "rating", "timestamp"]
        by_user = in_protocol_order(core_of(rows, rows, ProtocolSpec(user_core=1, item_core=1)), BY_USER, 0)
        assert by_user["item_id"].to_list()[3:] == ["b", "a"]


def test_a_setting_says_which_of_several_ratings_stays() -> None:
    ratings = [["u", "i", "1", "30"], ["u", "i", "2", "10"], ["u", "i", "3", "10"], ["u", "i", "4", "30"]]
    files = files_of("csv", ratings, [["i", "T", ""]], [])
    cases: dict[Repeats, float] = {"last": 4.0, "first": 2.0}
    for repeats, kept in cases.items():
        found = read(make_spec("csv", repeats=repeats), files)
        assert found.interactions["rating"].to_list() == [kept]
        assert set(found.rejected["reason"]) == {REPEATED[repeats]}


def test_of_a_log_of_clicks_repetitions_do_not_count_as_bad() -> None:
    reasons = pl.Series([REPEATED["last"], "empty user id", REPEATED["first"]])
    assert bad_ratings(reasons, is_implicit=True) == 1 and bad_ratings(reasons, is_implicit=False) == 3
    assert bad_ratings(reasons.clear(), is_implicit=True) == bad_ratings(reasons.clear(), is_implicit=False) == 0


def test_one_file_may_hold_ratings_and_titles() -> None:
    """Its rows repeat each item, which is refused for the catalogue and says nothing against the ratings."""
    file = {"file": "all.csv", "columns": COLUMNS["interactions"]}
    items = {"file": "all.csv", "columns": {"item_id": "what", "title": "name"}}
    rows = "".join(f"u{n},i,{n % 5 + 1},{n},Title\n" for n in range(1, 9))
    found = read(
        make_spec("csv", interactions=file, items=items, users=None),
        {"all.csv": f"who,what,stars,when,name\n{rows}u9,i,9,9,Title\n".encode()},
    )
    assert found.interactions.height == 8 and found.items.rows() == [("i", "Title")]
    assert refused_ratings(found.rejected).to_list() == [OFF_SCALE]
    assert found.rejected["table"].value_counts().sort("table").rows() == [("interactions", 1), ("items", 8)]


def test_blank_lines_before_the_header_and_a_comma_in_a_number() -> None:
    files = files_of("semicolon.csv", [], [["i", "T", ""]], [])
    files["interactions.semicolon.csv"] = b'\n  \nwho;what;stars;when\n\nu;i;"3,0";7\n'
    assert read(make_spec("semicolon.csv"), files).interactions.rows() == [("u", "i", 3.0, 7, 0)]


def test_unknown_items_may_stay() -> None:
    files = files_of("csv", [["u", "i", "5", "7"], ["u", "lost", "5", "8"]], [["i", "T", ""]], [])
    assert read(make_spec("csv"), files).rejected["reason"].to_list() == ["unknown item"]
    kept = read(make_spec("csv", unknown_items="keep"), files)
    assert kept.interactions["item_id"].to_list() == ["i", "lost"] and kept.rejected.is_empty()


def test_feedback_without_ratings_and_times() -> None:
    spec = make_spec(
        "csv",
        interactions={"file": "interactions.csv", "columns": {"user_id": "who", "item_id": "what"}},
        label={"negatives": 1},
        protocol={"split": "user"},
    )
    found = read(spec, files_of("csv", [["u", "i", "", ""], ["v", "i", "", ""]], [["i", "T", ""]], []))
    assert found.interactions.rows() == [("u", "i", 1.0, None, None), ("v", "i", 1.0, None, None)]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "dat"])
def test_a_missing_column_is_named_with_those_that_are_there(ending: str) -> None:
    files = files_of(ending, [], [], []) | {f"users.{ending}": encode(ending, ["who", "city"], [["u", "x"]])}
    with pytest.raises(DataError, match=r"must have town once; it has who(, city)?") as caught:
        read(make_spec(ending), files)
    assert f"users.{ending}" in str(caught.value)


def test_a_file_without_a_header_line_takes_its_names_from_the_settings() -> None:
    users = {"file": "users.csv", "header": ["who", "town"], "columns": COLUMNS["users"]}
    found = read(make_spec("csv", users=users), files_of("csv", [], [], []) | {"users.csv": b"u,here\nv,there\n"})
    assert found.users.rows() == [("u", "here"), ("v", "there")]


@settings(max_examples=30)
@given(st.text(max_size=60), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"]))
def test_lines_are_those_of_the_text_in_any_encoding(text: str, encoding: str) -> None:
    known = text.encode(encoding, errors="replace").decode(encoding).removeprefix("\ufeff")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_bytes(known.encode(encoding))
        with open_lines(path, encoding, Path(folder)) as lines:
            found = lines.collect()
    whole = known if "\n" in known else known.replace("\r", "\n")
    wanted = [line.removesuffix("\r") for line in whole.removesuffix("\n").split("\n")] if whole else []
    assert found.rows() == list(enumerate(wanted, 1))
