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
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.delimited import MAX_RECORD_LINES, Dialect, split_fields
from rallrec_pipeline.datasets.histories import in_protocol_order
from rallrec_pipeline.datasets.kcore import core_of, k_core
from rallrec_pipeline.datasets.lines import open_lines
from rallrec_pipeline.datasets.protocol_spec import ProtocolSpec
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.rows import FIRST_LINES
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import OFF_SCALE, REPEATED, RawTables, Repeats, bad_ratings, refused_ratings
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import INTERACTIONS, ITEMS, REJECTED_ROWS, USERS

COLUMNS: dict[str, dict[str, Any]] = {
    "interactions": {"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "when"},
    "items": {"item_id": "what", "title": "name", "tags": {"column": "tags", "split": "|"}},
    "users": {"user_id": "who", "town": "town"},
}
BY_USER = ProtocolSpec(split="user")
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
    assert found.interactions.rows() == [(u, i, float(n % 5 + 1), 1000 + n, 0) for n, (u, i) in enumerate(pairs)]
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
    good, refused = split_fields(frame.lazy(), Dialect(",", '"', "double"), 2, {"first": 0, "second": 1})
    kept = good.collect()
    records = pl.concat([kept.select("line", "text"), refused.select("line", "text")]).sort("line")
    found = [line for text in records["text"] for line in text.split("\n")]
    assert [line for line in found if line] == [line for line in lines.values() if line]
    starts = zip(records["line"], records["text"], strict=True)
    assert all(lines[line] == text.split("\n")[0] for line, text in starts)
    for *fields, record in kept.select("first", "second", "text").iter_rows():
        assert fields == next(csv.reader(io.StringIO(record, newline="")), [])


def test_a_stray_quote_spoils_its_own_line_only() -> None:
    rows = '1,i,5,10\n2,"i,5,10\n3,i,5,10\n'
    files = files_of("csv", [], [["i", "Title", "a"]], []) | {
        "interactions.csv": f"who,what,stars,when\n{rows}".encode()
    }
    found = read(make_spec("csv"), files)
    assert found.interactions["user_id"].to_list() == ["1", "3"]
    reason = "quotes do not enclose 4 fields"
    assert found.rejected.rows() == [("interactions", "interactions.csv", 3, reason, '2,"i,5,10')]


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
TRICKY = st.lists(st.sampled_from(["x", '"', '""', ",", "\n", "\r\n", "\r", "\\", " "]), max_size=6).map("".join)
WRITERS = [(csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\r\n")]  # these quote every CR and LF
TABLE_ROWS = st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(FIELD | TRICKY, min_size=n, max_size=n), max_size=8))


@settings(max_examples=40, deadline=None)
@given(TABLE_ROWS, st.sampled_from(WRITERS))
@example([["a", "x\n,,\nx", "b"]], (csv.QUOTE_MINIMAL, "\r\n"))
@example([["a", "first line\nbirds, bees, trees\nlast", "b"], ["c", 'five" pipe', "d"]], (csv.QUOTE_MINIMAL, "\r\n"))
@example([["a", "x\n", "b\n"], ["c", "\n\n", "d"], ["", '"\n"', ","]], (csv.QUOTE_ALL, "\n"))
def test_a_well_formed_file_is_read_as_csv_reads_it(rows: list[list[str]], writer: tuple[Any, str]) -> None:
    fields = len(rows[0]) if rows else 1
    text = io.StringIO(newline="")
    csv.writer(text, quoting=writer[0], lineterminator=writer[1]).writerows([["key"] * fields, *rows])
    wanted = list(csv.reader(io.StringIO(text.getvalue(), newline="")))[1:]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        with open_lines(path, "utf-8", Path(folder)) as lines:
            body = lines.filter(pl.col("line") > 1)
            names = {f"field {place}": place for place in range(fields)}
            good, refused = split_fields(body, Dialect(",", '"', "double"), fields, names)
            found = good.select("line", *names).collect().sort("line").drop("line").rows()
    assert refused.is_empty()
    assert found == [tuple(field.replace("\r\n", "\n") for field in row) for row in wanted]


def test_a_stray_quote_does_not_swallow_the_records_after_it() -> None:
    rows = ["1,a,A,x", '2,b,"B,x', "3,c,C,x", '4,d,"two', 'lines",x', "5,e,E,x"]
    lines = pl.DataFrame({"line": list(range(1, 7)), "text": rows})
    good, refused = split_fields(lines.lazy(), Dialect(",", '"', "double"), 4, {"id": 0, "title": 2})
    found = good.select("line", "id", "title").collect().sort("line").rows()
    assert found == [(1, "1", "A"), (3, "3", "C"), (4, "4", "two\nlines"), (6, "5", "E")]
    assert refused.rows() == [(2, "quotes do not enclose 4 fields", '2,b,"B,x')]


@pytest.mark.parametrize(("more", "records"), [(0, 1), (1, 0)])
def test_a_field_has_a_bounded_number_of_lines(more: int, records: int) -> None:
    """One line more, and each stands by itself, which here is no record."""
    inner = ["a"] * (MAX_RECORD_LINES - 2 + more)
    lines = pl.DataFrame({"text": ['1,"', *inner, '"']}).with_row_index("line", 1).cast({"line": pl.Int64})
    good, refused = split_fields(lines.lazy(), Dialect(",", '"', "double"), 2, {"id": 0})
    assert good.collect().height == records
    assert refused["line"].to_list() == (list(range(1, MAX_RECORD_LINES + 2)) if more else [])


@pytest.mark.parametrize(("between", "columns"), [(3, {"user_id": 0, "rating": 1}), (300, {"title": 1})])
def test_two_stray_quotes_spoil_their_own_lines_only(between: int, columns: dict[str, int]) -> None:
    """No id or rating holds a line end, and no title holds hundreds of whole records."""
    texts = ["u0,1", 'u1,"2', *(f"u{row},3" for row in range(between)), 'u2,4"', "u3,5"]
    lines = pl.DataFrame({"text": texts}).with_row_index("line", 1).cast({"line": pl.Int64})
    good, refused = split_fields(lines.lazy(), Dialect(",", '"', "double"), 2, columns)
    stray = [2, between + 3]
    # What ends in a quote may be a bare field: only the one that opens is sure to be none.
    assert refused["line"].to_list() in (stray[:1], stray)
    assert set(range(1, between + 5)) - set(good.collect()["line"]) == set(refused["line"])


def test_wide_files_are_read_as_narrow_ones() -> None:
    wide = [[f'{row}, "{column}"' for column in range(300)] for row in range(50)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(wide)
    lines = pl.DataFrame({"text": text.getvalue().split("\n")}).with_row_index("line", 1).cast({"line": pl.Int64})
    good, refused = split_fields(lines.lazy(), Dialect(",", '"', "double"), 300, {"first": 0, "last": 299})
    assert good.select("first", "last").collect().rows() == [(row[0], row[-1]) for row in wide]
    assert refused.is_empty()


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


def json_items(*lines: str, **columns: Any) -> pl.DataFrame:
    """The table `items` of these lines, with other `columns` besides id and title."""
    table = {"file": "items.jsonl", "columns": {"item_id": "what", "title": "name", **columns}}
    return read(
        make_spec("jsonl", items=table), files_of("jsonl", [], [], []) | {"items.jsonl": "\n".join(lines).encode()}
    ).items


def test_json_lists_are_read_whole_and_their_empty_entries_count() -> None:
    def tags(*entries: Any) -> str:
        return json.dumps({"what": str(len(entries)), "name": "N", "tags": entries})

    many = [str(n) for n in range(40)]
    columns = {
        "tags": "tags",
        "last": {"column": "tags", "pick": -1},
        "third": {"column": "tags", "length": 3, "pick": 3},
    }
    found = json_items(tags(*many), tags("Movies", "", "Drama"), tags("a", None, "", "b"), tags(), **columns)
    assert found.select("tags", "last", "third").rows() == [
        (", ".join(many), "39", ""),
        ("Movies, Drama", "Drama", "Drama"),
        ("a, b", "b", ""),
        ("", "", ""),
    ]


def test_a_text_that_looks_like_a_list_stays_one() -> None:
    titles = ["[REC]", '["a", "b"]', "[]", "1e5", "[\\q", "[1]"]
    found = json_items(*(json.dumps({"what": str(n), "name": title}) for n, title in enumerate(titles)))
    assert found["title"].to_list() == titles


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(10**30), 10**30) | st.integers(2**62, 2**65), min_size=1, unique=True))
def test_json_numbers_keep_their_digits(ids: list[int]) -> None:
    found = json_items(*(f'{{"what": {number}, "name": [{number}, "x"]}}' for number in ids))
    assert found["item_id"].to_list() == [str(number) for number in ids]
    assert found["title"].to_list() == [f"{number}, x" for number in ids]


def test_a_json_name_may_hold_a_dot_or_lead_to_a_nested_field() -> None:
    lines = (
        '{"what": "1", "name": "N", "meta.maker": "A", "meta": {"maker": "B"}}',
        '{"what": "2", "meta": {"maker": "C"}}',
    )
    assert json_items(*lines, maker="meta.maker")["maker"].to_list() == ["A", "C"]


def test_a_json_field_may_first_come_late() -> None:
    early = [f'{{"what": "{n}", "name": "N"}}' for n in range(FIRST_LINES)]
    found = json_items(*early, '{"what": "late", "brand": "B"}', brand="brand")
    assert found.filter(pl.col("brand") != "").rows() == [("late", "", "B")]


def test_parquet_keeps_numbers_lists_and_moments() -> None:
    moments = pl.Series([1_000_000, 2_500_000], dtype=pl.Int64).cast(pl.Datetime("us"))
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
    assert found.interactions.rows() == [("1", "7", 5.0, 1, 0), ("2", "7", 2.0, 2, 500_000)]
    assert found.items.rows() == [("7", "Seven", "a, b")]


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "column", [{}, {"unit": "ms"}, {"time_format": "%Y-%m-%d %H:%M:%S"}, {"time_format": "%Y-%m-%dT%H:%M:%S%z"}]
)
def test_a_moment_in_parquet_is_one_whatever_its_column_says(column: dict[str, str]) -> None:
    columns = {**COLUMNS["interactions"], "timestamp": {"column": "when", **column}}
    spec = make_spec("parquet", interactions={"file": "interactions.parquet", "columns": columns})
    when = pl.Series(["2020-01-01 01:00:05"]).str.to_datetime(time_unit="ms").dt.replace_time_zone("Europe/Berlin")
    files = files_of("parquet", [], [["i", "T", ""]], [])
    files["interactions.parquet"] = parquet(who=["u"], what=["i"], stars=[5], when=when)
    assert read(spec, files).interactions["timestamp"].to_list() == [1_577_836_805]


def test_parquet_may_hold_arrays_bytes_structs_and_dates() -> None:
    files = files_of("parquet", [], [], []) | {
        "items.parquet": parquet(
            what=[b"text", b"\xff\x00"],
            name=[{"en": "One"}, None],
            tags=pl.Series([[1, 2], [3, None]], dtype=pl.Array(pl.Int64, 2)),
        ),
        "users.parquet": parquet(who=["u"], town=pl.Series(["1990-05-01"]).str.to_date()),
    }
    found = read(make_spec("parquet"), files)
    assert found.items.rows() == [("text", '{"en":"One"}', "1, 2"), ("ff00", "", "3")]
    assert found.users.rows() == [("u", "1990-05-01")]


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
