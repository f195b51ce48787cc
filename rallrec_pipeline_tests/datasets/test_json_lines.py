"""JSON lines: nested fields, lists, and numbers with all their digits."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.rows import FIRST_LINES
from rallrec_pipeline_tests.datasets.formats import files_of, make_spec, read


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


@settings(max_examples=40)
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
