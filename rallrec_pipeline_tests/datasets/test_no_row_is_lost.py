"""Whatever is done to a file: rows in are rows kept, rows rejected with a reason, and rows that repeat others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.tables import REPEATED
from rallrec_pipeline_tests.datasets.brought import Files, dataset, delimited, tables, titles, world

RATINGS, HEADER = world()[:40], ("user_id", "item_id", "rating", "timestamp")
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, 39),
        st.sampled_from(
            ['"', ",", "\t", ";", "", "NULL", "NaN", "0", "\\", " ", "x" * 50, '""', "{", "é", "\x00", "1e9"]
        ),
        st.integers(0, 30),
        st.sampled_from(["insert", "cut", "swap", "double"]),
    ),
    max_size=12,
)


def damaged(lines: list[str], damage: list[tuple[int, str, int, str]]) -> list[str]:
    """Lines with marks put in, cut off, in another order or twice; none becomes blank or two."""
    for place, mark, at, how in damage:
        row = place % len(lines)
        if how == "insert":
            lines[row] = lines[row][:at] + mark + lines[row][at:]
        elif how == "cut":
            lines[row] = lines[row][: at + 1]
        elif how == "swap":
            lines[row], lines[-1 - row] = lines[-1 - row], lines[row]
        else:
            lines.append(lines[row])
    return [line if line.strip() else "x" for line in lines]


def write_lines(kind: str) -> tuple[list[str], list[str], str, dict[str, str]]:
    """The rows of ratings and of items as lines, the header of both, and the settings of their files."""
    if kind == "jsonl":
        ratings = [json.dumps(dict(zip(HEADER, row, strict=True))) for row in RATINGS]
        items = [json.dumps({"item_id": item, "title": title}) for item, title in titles().items()]
        return ratings, items, "", {}
    mark = {"csv": ",", "tsv": "\t", "dat": "::"}[kind]
    ratings = [mark.join(map(str, row)) for row in RATINGS]
    items = [mark.join(row) for row in titles().items()]
    return ratings, items, mark, {"separator": mark, "quote": ""} if kind == "dat" else {}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["csv", "tsv", "dat", "jsonl"]), DAMAGE, DAMAGE, st.sampled_from(["reject", "keep"]))
def test_rows_in_are_rows_kept_rejected_or_repeated(
    kind: str, on_ratings: list[tuple[int, str, int, str]], on_items: list[tuple[int, str, int, str]], unknown: str
) -> None:
    ratings, items, mark, options = write_lines(kind)
    ratings, items = damaged(ratings, on_ratings), damaged(items, on_items)
    heads = [mark.join(names) for names in (HEADER, ("item_id", "title"))] if mark else ["", ""]
    files: Files = {
        f"{name}.{kind}": "\n".join([*([head] if head else []), *rows, ""]).encode()
        for name, head, rows in (("r", heads[0], ratings), ("i", heads[1], items))
    }
    told = "".join(f"\n{key} = {json.dumps(value)}" for key, value in options.items())
    with TemporaryDirectory() as folder:
        path = dataset(
            Path(folder),
            files,
            interactions=f'file = "r.{kind}"{told}',
            items=f'file = "i.{kind}"{told}',
            top=f'unknown_items = "{unknown}"',
        )
        found = tables(path)
    for table, kept, lines in (("interactions", found.interactions, ratings), ("items", found.items, items)):
        rejected = found.rejected.filter(found.rejected["table"] == table)
        assert rejected["reason"].null_count() == 0 and rejected["line"].n_unique() == rejected.height
        # A record of a quoted CSV file may hold line ends: then it has as many lines as its text.
        joined = sum(text.count("\n") for text in (*rejected["text"], *(kept["title"] if table == "items" else [])))
        assert kept.height + rejected.height + joined == len(lines), Counter(rejected["reason"])
    repeated = found.rejected.filter(found.rejected["reason"].is_in(list(REPEATED.values())))
    assert found.interactions.select("user_id", "item_id").is_unique().all()
    assert repeated.height <= len(ratings)


def test_the_text_of_a_rejected_row_is_that_of_its_line() -> None:
    lines = ["u1,i1,5,1600000000", ",i1,5,1600000001", "u2,i1,x,1600000002", "u3,i1,5", "u1,i2,4,soon"]
    with TemporaryDirectory() as folder:
        files = {"ratings.csv": delimited(HEADER, []) + "\n".join(lines).encode()}
        found = tables(dataset(Path(folder), files)).rejected
    assert found.select("line", "text").rows() == list(enumerate(lines[1:], 3))
