"""The reader of every format: nothing but DataError, no row lost, and the same tables whatever the format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.delimited import Dialect, split_fields
from rallrec_pipeline.datasets.lines import open_lines
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, USERS

COLUMNS = {
    "interactions": {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "when"},
    "items": {"item_id": "what", "title": "name", "tags": {"column": "tags", "split": "|"}},
    "users": {"user_id": "who", "town": "town"},
}
FORMATS: dict[str, dict[str, Any]] = {
    "csv": {},
    "tsv": {},
    "semicolon.csv": {"separator": ";", "escape": "backslash", "encoding": "cp1252", "empty": ["NULL"]},
    "dat": {"separator": "::", "quote": "", "encoding": "latin-1"},
    "inter": {},
    "jsonl": {},
    "parquet": {},
}


def make_spec(ending: str, **changes: Any) -> DatasetSpec:
    tables = {
        name: {"file": f"{name}.{ending}", "columns": columns, **FORMATS[ending]} for name, columns in COLUMNS.items()
    }
    values = {
        "name": "mine",
        "title": "Mine",
        "source": {"kind": "folder", "location": "nowhere"},
        **tables,
        "label": {"scale": [1, 2, 3, 4, 5], "like_above": 3},
    }
    return DatasetSpec.model_validate(values | changes)


def read(spec: DatasetSpec, files: dict[str, bytes]) -> RawTables:
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw" / "mine"
        raw.mkdir(parents=True)
        for name, content in files.items():
            (raw / name).write_bytes(content)
        found = read_raw(spec, Path(folder))
        assert sorted(path.name for path in raw.iterdir()) == sorted(files), "the reader leaves nothing behind"
    for rows, table in (
        (found.interactions, INTERACTIONS),
        (found.items, ITEMS),
        (found.users, USERS),
        (found.rejected, REJECTED_ROWS),
    ):
        check_schema(rows, table, "mine")
    return found


def encode(ending: str, header: list[str], rows: list[list[str]]) -> bytes:
    """The rows as a file of each format."""
    options = FORMATS[ending]
    if ending == "jsonl":
        return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()
    if ending == "parquet":
        buffer = io.BytesIO()
        pl.DataFrame(rows, schema=dict.fromkeys(header, pl.String), orient="row").write_parquet(buffer)
        return buffer.getvalue()
    if ending in ("dat", "inter"):
        lines = [options.get("separator", "\t").join(row) for row in [header, *rows]]
        return ("\n".join(lines) + "\n").encode(options.get("encoding", "utf-8"))
    text = io.StringIO()
    backslash = options.get("escape") == "backslash"
    writer = csv.writer(
        text,
        delimiter="\t" if ending == "tsv" else options.get("separator", ","),
        escapechar="\\" if backslash else None,
        doublequote=not backslash,
        quoting=csv.QUOTE_ALL if backslash else csv.QUOTE_MINIMAL,
        lineterminator="\r\n",
    )
    writer.writerows([header, *rows])
    return text.getvalue().encode(options.get("encoding", "utf-8"))


def files_of(ending: str, ratings: list[list[str]], items: list[list[str]], users: list[list[str]]) -> dict[str, bytes]:
    return {
        f"interactions.{ending}": encode(ending, ["who", "what", "stars", "when"], ratings),
        f"items.{ending}": encode(ending, ["what", "name", "tags"], items),
        f"users.{ending}": encode(ending, ["who", "town"], users),
    }


PLAIN = st.text(st.characters(codec="latin-1", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=6)
WORD = PLAIN.filter(lambda word: not set(word) & set('\t:|"\\;,\x1f[{') and word != "NULL")
WILD = st.lists(st.sampled_from(["a", "é", '"', ",", ";", "\\", "\n", "\r\n", " b"]), min_size=1, max_size=6).map(
    lambda parts: "x" + "".join(parts) + "x"
)


@settings(max_examples=15, deadline=None)
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
    assert found.interactions.rows() == [(u, i, float(n % 5 + 1), 1000 + n) for n, (u, i) in enumerate(pairs)]
    said = {item: text.replace("\r\n", "\n").strip() for item, text in titles.items()}
    assert {i: t.replace("\r\n", "\n") for i, t, _ in found.items.rows()} == said
    assert set(found.items["tags"]) == {"one, two"} and found.users.rows() == [(u, "here") for u in users]


@settings(max_examples=40, deadline=None)
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


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b,", '"', '""', ",", "\n", " "]), max_size=6).map("".join), max_size=6))
def test_no_line_of_a_quoted_file_is_lost(rows: list[str]) -> None:
    """Each line is in exactly one record, kept or refused, with the number of its first line."""
    text = "\n".join(rows)
    lines = dict(enumerate(text.split("\n"), 1))
    frame = pl.DataFrame(
        {"line": list(lines), "text": list(lines.values())}, schema={"line": pl.Int64, "text": pl.String}
    )
    good, refused = split_fields(frame.lazy(), Dialect(",", '"', "double"), 2)
    kept = good.collect()
    records = pl.concat([kept.select("line", "text"), refused.select("line", "text")]).sort("line")
    found = [line for text in records["text"] for line in text.split("\n")]
    assert [line for line in found if line] == [line for line in lines.values() if line]
    starts = zip(records["line"], records["text"], strict=True)
    assert all(lines[line] == text.split("\n")[0] for line, text in starts)
    for fields, record in kept.select("fields", "text").iter_rows():
        assert fields == next(csv.reader(io.StringIO(record, newline="")), [])


def test_a_stray_quote_spoils_its_own_line_only() -> None:
    rows = '1,i,5,10\n2,"i,5,10\n3,i,5,10\n'
    files = files_of("csv", [], [["i", "Title", "a"]], []) | {
        "interactions.csv": f"who,what,stars,when\n{rows}".encode()
    }
    found = read(make_spec("csv"), files)
    assert found.interactions["user_id"].to_list() == ["1", "3"]
    assert found.rejected.rows() == [("interactions.csv", 3, "quotes do not enclose 4 fields", '2,"i,5,10')]


def test_a_quote_within_a_bare_field_is_text() -> None:
    items = b'what,name,tags\ni,5" pipe,a\nj,6 pipe,b\n'
    found = read(make_spec("csv"), files_of("csv", [], [], []) | {"items.csv": items})
    assert found.items.rows() == [("i", '5" pipe', "a"), ("j", "6 pipe", "b")]


def test_a_field_may_hold_line_ends_and_the_line_number_is_the_first() -> None:
    items = b'what,name,tags\ni,"one\ntwo, ""three""\nfour",a\n,"no\nid",b\n'
    found = read(make_spec("csv"), files_of("csv", [], [], []) | {"items.csv": items})
    assert found.items.rows() == [("i", 'one\ntwo, "three"\nfour', "a")]
    assert found.rejected.select("line", "reason").rows() == [(5, "empty id")]


def test_the_escapes_of_the_bookcrossing_dump_are_read() -> None:
    items = 'what;name;tags\n"1";"\\"O\\" Is for Outlaw";NULL\n"2";"a; b";"x\\\\y"\n"3";"one";"two";"three"\n'
    found = read(
        make_spec("semicolon.csv"),
        files_of("semicolon.csv", [], [], []) | {"items.semicolon.csv": items.encode("cp1252")},
    )
    assert found.items.rows() == [("1", '"O" Is for Outlaw', ""), ("2", "a; b", "x\\y")]
    assert found.rejected.select("line", "reason").rows() == [(4, "quotes do not enclose 3 fields")]


def test_json_lines_may_nest_and_hold_lists_and_lack_fields() -> None:
    items = [
        '{"what": "1", "name": "One", "tags": ["a", "b"]}',
        '{"what": 2, "name": null, "tags": "lone"}',
        '{"name": "no id"}',
        "[1, 2]",
        '{"what": "3", "name": "cut off',
    ]
    found = read(make_spec("jsonl"), files_of("jsonl", [], [], []) | {"items.jsonl": "\n".join(items).encode()})
    assert found.items.rows() == [("1", "One", "a, b"), ("2", "", "lone")]
    assert found.rejected.select("line", "reason").rows() == [
        (3, "empty id"),
        (4, "no JSON object"),
        (5, "no JSON object"),
    ]
    nested = make_spec("jsonl", items={"file": "items.jsonl", "columns": {"item_id": "id.local", "title": "name"}})
    files = files_of("jsonl", [], [], []) | {"items.jsonl": b'{"id": {"local": "x"}, "name": "Deep"}\n'}
    assert read(nested, files).items.rows() == [("x", "Deep")]


def test_parquet_keeps_numbers_lists_and_moments() -> None:
    moments = pl.Series([1_000_000, 2_000_000], dtype=pl.Int64).cast(pl.Datetime("us"))
    ratings = pl.DataFrame({"who": [1, 2], "what": [7, 7], "stars": [5, 2], "when": moments})
    items = pl.DataFrame({"what": [7], "name": ["Seven"], "tags": [["a", "b"]]})
    files = {}
    for name, frame in {
        "interactions": ratings,
        "items": items,
        "users": pl.DataFrame({"who": [1], "town": ["x"]}),
    }.items():
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        files[f"{name}.parquet"] = buffer.getvalue()
    found = read(make_spec("parquet"), files)
    assert found.interactions.rows() == [("1", "7", 5.0, 1), ("2", "7", 2.0, 2)]
    assert found.items.rows() == [("7", "Seven", "a, b")]


@pytest.mark.parametrize(
    ("column", "written", "seconds"),
    [
        ({"column": "when", "unit": "ms"}, "1500", 1),
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
    assert found.interactions.rows() == [("u", "i", 1.0, None), ("v", "i", 1.0, None)]


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


@settings(max_examples=30, deadline=None)
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
