"""Whatever is done to a file: rows in are rows kept, rows rejected with a reason, and rows that repeat others."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.tables import REPEATED
from rallrec_pipeline_tests.datasets.brought import (
    Files,
    dataset,
    delimited,
    tables,
    titles,
    workbook,
    world,
    zipped,
    zst,
)

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
    if kind in ("jsonl", "json"):
        ratings = [json.dumps(dict(zip(HEADER, row, strict=True))) for row in RATINGS]
        items = [json.dumps({"item_id": item, "title": title}) for item, title in titles().items()]
        return ratings, items, "", {}
    mark = {"csv": ",", "tsv": "\t", "dat": "::", "inter": "\t"}[kind]
    ratings = [mark.join(map(str, row)) for row in RATINGS]
    items = [mark.join(row) for row in titles().items()]
    return ratings, items, mark, {"separator": mark, "quote": ""} if kind == "dat" else {}


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zst,
    ".zip": lambda content: zipped("inner.csv", content),
}


def in_files(name: str, kind: str, head: str, rows: list[str], packed: str, parts: int) -> Files:
    """The lines as one file or as several, each with the header, packed or not."""
    texts = []
    for part in range(parts):
        own = [*([head] if head else []), *rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]]
        texts.append("[" + ",\n".join(own) + "]" if kind == "json" else "\n".join([*own, ""]))
    names = [f"{name}.{kind}{packed}"] if parts == 1 else [f"{name}/{part}.{kind}{packed}" for part in range(parts)]
    return {name: PACKED[packed](text.encode()) for name, text in zip(names, texts, strict=True)}


@settings(max_examples=40)
@given(
    st.sampled_from(["csv", "tsv", "dat", "inter", "jsonl", "json"]),
    st.sampled_from(sorted(PACKED)),
    st.sampled_from([1, 1, 3]),
    DAMAGE,
    DAMAGE,
    st.sampled_from(["reject", "keep"]),
)
def test_rows_in_are_rows_kept_rejected_or_repeated(
    kind: str,
    packed: str,
    parts: int,
    on_ratings: list[tuple[int, str, int, str]],
    on_items: list[tuple[int, str, int, str]],
    unknown: str,
) -> None:
    ratings, items, mark, options = write_lines(kind)
    if kind == "json":  # what is damaged is no document any more, but lines
        parts, on_ratings, on_items = 1, [], []
    ratings, items = damaged(ratings, on_ratings), damaged(items, on_items)
    heads = [mark.join(names) for names in (HEADER, ("item_id", "title"))] if mark else ["", ""]
    files = in_files("r", kind, heads[0], ratings, packed, parts) | in_files("i", kind, heads[1], items, packed, parts)
    formats = {"inter": "atomic", "jsonl": "json_lines", "json": "json_lines"}
    options = options | {"format": formats.get(kind, "csv")} | ({"separator": mark} if kind == "tsv" else {})
    told = "".join(f"\n{key} = {json.dumps(value)}" for key, value in options.items())
    place = f".{kind}{packed}" if parts == 1 else ""
    with TemporaryDirectory() as folder:
        path = dataset(
            Path(folder),
            files,
            interactions=f'file = "r{place}"{told}',
            items=f'file = "i{place}"{told}',
            top=f'unknown_items = "{unknown}"',
        )
        found = tables(path)
    for table, kept, lines in (("interactions", found.interactions, ratings), ("items", found.items, items)):
        rejected = found.rejected.filter(found.rejected["table"] == table)
        assert rejected["reason"].null_count() == 0 and rejected["line"].n_unique() == rejected.height
        # A record of a quoted CSV file may hold line ends: then it has as many lines as its text.
        texts = [*rejected["text"], *(kept["title"] if table == "items" else [])]
        joined = sum(max(0, len([line for line in text.split("\n") if line.strip()]) - 1) for text in texts)
        assert kept.height + rejected.height + joined == len(lines), Counter(rejected["reason"])
    repeated = found.rejected.filter(found.rejected["reason"].is_in(list(REPEATED.values())))
    assert found.interactions.select("user_id", "item_id").is_unique().all()
    assert repeated.height <= len(ratings)


CELLS = st.one_of(st.none(), st.sampled_from(["", "u1", "i1", "NaN", "5", "x", "1600000000", "-1", " "]))


def with_types(kind: str, rows: list[tuple[str | None, ...]]) -> bytes:
    """A table of text as the file of a library that knows types, or as the sheet of a workbook."""
    if kind == "xlsx":
        return workbook(HEADER, rows)
    frame, stream = pl.DataFrame(rows, schema=dict.fromkeys(HEADER, pl.String), orient="row"), io.BytesIO()
    (frame.write_parquet if kind == "parquet" else frame.write_ipc)(stream)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "arrow", "xlsx"])
@settings(max_examples=10)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=30), parts=st.sampled_from([1, 2]))
def test_rows_of_files_with_types_are_kept_rejected_or_repeated(
    kind: str, rows: list[tuple[str | None, ...]], parts: int
) -> None:
    whole = [*rows, *(tuple(map(str, row)) for row in RATINGS)]
    files: Files = {}
    for part in range(parts):
        content = with_types(kind, whole[part::parts])
        files[f"r/{part}.{kind}" if parts > 1 else f"r.{kind}"] = content
    place = "r" if parts > 1 else f"r.{kind}"
    with TemporaryDirectory() as folder:
        found = tables(
            dataset(
                Path(folder), files, interactions=f'file = "{place}"\nformat = "{"excel" if kind == "xlsx" else kind}"'
            )
        )
    assert found.interactions.height + found.rejected.height == len(whole), Counter(found.rejected["reason"])


def test_the_text_of_a_rejected_row_is_that_of_its_line() -> None:
    lines = ["u1,i1,5,1600000000", ",i1,5,1600000001", "u2,i1,x,1600000002", "u3,i1,5", "u1,i2,4,soon"]
    with TemporaryDirectory() as folder:
        files = {"ratings.csv": delimited(HEADER, []) + "\n".join(lines).encode()}
        found = tables(dataset(Path(folder), files)).rejected
    assert found.select("line", "text").rows() == list(enumerate(lines[1:], 3))
