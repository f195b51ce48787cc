"""Files of delimited text: no line is lost, quotes enclose what they should, and records may have several lines."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.delimited import MAX_RECORD_LINES, Dialect, split_fields
from rallrec_pipeline.datasets.lines import open_lines
from rallrec_pipeline_tests.datasets.formats import files_of, make_spec, read


@settings(max_examples=60)
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


@settings(max_examples=40)
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
