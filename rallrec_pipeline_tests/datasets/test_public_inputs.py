"""Inputs that public reports are full of: each is read right, or one line says how to mend it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.drafting.new import new_dataset
from rallrec_pipeline_tests.datasets.brought import (
    Files,
    check,
    dataset,
    delimited,
    items_csv,
    json_lines,
    ratings_csv,
    tables,
    tarred,
    titles,
    told,
    world,
    write,
    zipped,
    zst,
)

HEADER = ("user_id", "item_id", "rating", "timestamp")
ROWS = world()
OBJECTS = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
CSV = ratings_csv()


def rated(change: Callable[[str, str, int, int], Sequence[object]], header: Sequence[str] = HEADER) -> bytes:
    """The ratings as CSV, each row changed."""
    return delimited(header, [change(*row) for row in ROWS])


def typed_parquet() -> bytes:
    """Columns of the types that Spark, pandas and Arrow write."""
    users, items, ratings, times = zip(*ROWS, strict=True)
    columns = {
        "user_id": pa.array(users).dictionary_encode(),
        "item_id": pa.array(items, pa.large_string()),
        "rating": pa.array(ratings).cast(pa.decimal128(21, 1)),
        "timestamp": pa.array([time * 1000 for time in times], pa.timestamp("ms", "Europe/Berlin")),
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def named(name: str, *settings: str) -> str:
    return "\n".join([f'file = "{name}"', *settings])


READ: dict[str, tuple[Files, str]] = {
    "UTF-16 with a mark": ({"r.csv": CSV.decode().encode("utf-16")}, named("r.csv", 'encoding = "utf-16"')),
    "lines that end in CR LF": ({"r.csv": CSV.replace(b"\n", b"\r\n")}, named("r.csv")),
    "numbers in quotes": ({"r.csv": rated(lambda u, i, r, t: (u, i, f'"{r}"', f'"{t}"'))}, named("r.csv")),
    "a separator at the end": (
        {"r.csv": CSV.replace(b"\n", b",\n").replace(b"timestamp,", b"timestamp")},
        named("r.csv", "skip_lines = 1", 'header = ["user_id", "item_id", "rating", "timestamp", "nothing"]'),
    ),
    "comments before the header": ({"r.csv": b"# shop\n# 2020, all\n\n" + CSV}, named("r.csv", "skip_lines = 2")),
    "bars with blanks": (
        {"r.csv": delimited(HEADER, ROWS, " | ")},
        named("r.csv", 'separator = "|"'),
    ),
    "a zip within a zip": ({"r.zip": zipped("inner.zip", zipped("r.csv", CSV))}, named("r.zip")),
    "a tar with folders": ({"r.tar.zst": zst(tarred("r.csv", CSV))}, named("r.tar.zst")),
    "types of Parquet": ({"r.parquet": typed_parquet()}, named("r.parquet")),
    "a list in JSON": ({"r.json": json.dumps(OBJECTS).encode()}, named("r.json")),
    "a list in JSON over many lines": ({"r.json": json.dumps(OBJECTS, indent=1).encode()}, named("r.json")),
    "a list a line in JSON": (
        {"r.json": b"[\n" + json_lines(OBJECTS)[:-1].replace(b"}\n", b"},\n") + b"\n]"},
        named("r.json"),
    ),
    "a list under a key": (
        {"r.json": json.dumps({"count": 144, "columns": [{"name": "x"}], "data": OBJECTS, "next": None}).encode()},
        named("r.json"),
    ),
    "objects over many lines": (
        {"r.json": "\n".join(json.dumps(row, indent=2) for row in OBJECTS).encode()},
        named("r.json"),
    ),
    "lines of JSON that end in commas": ({"r.ndjson": json_lines(OBJECTS).replace(b"}\n", b"},\n")}, named("r.ndjson")),
    "a column that has no name": (
        {"r.csv": delimited(("", *HEADER), [(n, *row) for n, row in enumerate(ROWS)])},
        named("r.csv"),
    ),
}


@pytest.mark.parametrize("name", sorted(READ))
def test_it_is_read_to_the_last_row(tmp_path: Path, name: str) -> None:
    files, interactions = READ[name]
    path = dataset(tmp_path, files, interactions=interactions)
    assert check(path).problems == []
    found = tables(path)
    assert found.interactions.select(HEADER).rows() == [(u, i, float(r), t) for u, i, r, t in ROWS]
    assert found.rejected.is_empty()


def on_scale(scale: str, like_above: float, change: Callable[[int], object]) -> tuple[Files, dict[str, str]]:
    files = {"ratings.csv": rated(lambda u, i, r, t: (u, i, change(r), t))}
    return files, {"label": f"scale = {scale}\nlike_above = {like_above}"}


@pytest.mark.parametrize(
    ("files", "settings", "first"),
    [
        (*on_scale("[0, 1]", 0, lambda r: ("TRUE", "fAlSe")[r < 4]), {1.0, 0.0}),
        (*on_scale("[0.5, 1.5, 2.5, 3.5, 4.5]", 2.5, lambda r: f'"{r - 1},5"'), {0.5, 1.5, 2.5, 3.5, 4.5}),
        (*on_scale("[-2, -1, 0, 1, 2]", 0, lambda r: f"{r - 3}".replace("-", "−")), {-2.0, -1.0, 0.0, 1.0, 2.0}),
        (*on_scale("[-2, -1, 0, 1, 2]", 0, lambda r: f"{r - 3:+d}"), {-2.0, -1.0, 0.0, 1.0, 2.0}),
    ],
    ids=["truth in any case", "halves with commas", "a minus of typesetters", "a plus"],
)
def test_ratings_are_numbers_however_they_are_written(
    tmp_path: Path, files: Files, settings: dict[str, str], first: set[float]
) -> None:
    path = dataset(tmp_path, files, **settings)
    assert check(path).problems == [] and set(tables(path).interactions["rating"]) == first


def test_titles_may_hold_line_ends(tmp_path: Path) -> None:
    rows = [(item, f'"{title}\r\nor: ""The Return"""') for item, title in titles().items()]
    path = dataset(tmp_path, {"items.csv": delimited(("item_id", "title"), rows).replace(b"\n", b"\r\n")})
    found = tables(path).items
    assert check(path).problems == [] and found.height == 12 and found["title"].str.ends_with('or: "The Return"').all()


YEAR = datetime(2020, 9, 13, tzinfo=UTC).toordinal() - datetime(1899, 12, 30, tzinfo=UTC).toordinal()
TOLD: dict[str, tuple[Files, str, tuple[str, ...]]] = {
    "UTF-16": ({"r.csv": CSV.decode().encode("utf-16")}, named("r.csv"), ('set interactions.encoding = "utf-16"',)),
    "UTF-16 without a mark": (
        {"r.csv": CSV.decode().encode("utf-16-le")},
        named("r.csv"),
        ('set interactions.encoding = "utf-16-le"',),
    ),
    "thousands": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, f'"{r},000"', t))},
        named("r.csv"),
        ("write numbers as 4.5",),
    ),
    "words": ({"r.csv": rated(lambda u, i, r, t: (u, i, "good", t))}, named("r.csv"), ("values = { good = 5 }",)),
    "milliseconds as decimals": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, f"{t}123.0"))},
        named("r.csv"),
        ('unit = "ms"',),
    ),
    "microseconds as powers": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, f"{t * 1e6:.9e}"))},
        named("r.csv"),
        ('unit = "us"',),
    ),
    "weeks of ISO": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, datetime.fromtimestamp(t, UTC).strftime("%G-W%V-%u")))},
        named("r.csv"),
        ('time_format = "%G-W%V-%u"',),
    ),
    "days of Excel": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, f"{YEAR + t / 1e6:.4f}"))},
        named("r.csv"),
        ("day numbers of Excel",),
    ),
    "times in words": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, "two weeks ago"))},
        named("r.csv"),
        ("write times as seconds",),
    ),
    "a name that comes twice": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, t, 1), ("user_id", "item_id", "rating", "timestamp", "rating"))},
        named("r.csv"),
        ("must have once", "'rating'"),
    ),
    "nothing but a header": ({"r.csv": delimited(HEADER, [])}, named("r.csv"), ("has no rows",)),
    "a separator at the end": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r, t, ""))},
        named("r.csv"),
        ("one field more than the header", "interactions.skip_lines = 1", "all 5 columns in interactions.header"),
    ),
    "row names of R": (
        {"r.csv": rated(lambda u, i, r, t: (r, u, i, r, t))},
        named("r.csv"),
        ("one field more than the header, as R",),
    ),
    "comments": ({"r.csv": b"# shop\n# all of 2020\n" + CSV}, named("r.csv"), ("set skip_lines = 2",)),
    "ratings below nothing": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, r - 3, t))},
        named("r.csv"),
        ("the file holds -2, -1, 0, 1, 2",),
    ),
    "ratings to a hundred": (
        {"r.csv": rated(lambda u, i, r, t: (u, i, 20 * r - t // 7201 % 19, t))},
        named("r.csv"),
        ("put them into a few steps",),
    ),
    "zeros before ids": (
        {
            "items.csv": delimited(("item_id", "title"), [(f"00{item[1:]}", name) for item, name in titles().items()]),
            "r.csv": rated(lambda u, i, r, t: (u, i[1:], r, t)),
        },
        named("r.csv"),
        ("most differ from listed ids only by leading zeros",),
    ),
    "several rows an item": (
        {"items.csv": delimited(("item_id", "title"), [(i, f"{t} {g}") for i, t in titles().items() for g in "ab"])},
        named("ratings.csv"),
        ("come more than once and tell different things", "mend the file"),
    ),
    "years with other columns": (
        {"log/2020.csv": CSV, "log/2021.csv": rated(lambda u, i, r, t: (u, i, r, t, "web"), (*HEADER, "source"))},
        named("log/*.csv"),
        ("2021.csv has other columns than the parts before it",),
    ),
    "years in another order": (
        {
            "log/2020.csv": CSV,
            "log/2021.csv": rated(lambda u, i, r, t: (i, u, t, r), ("item_id", "user_id", *HEADER[:1:-1])),
        },
        named("log/*.csv"),
        ("2021.csv has the columns of the other parts in another order",),
    ),
    "JSON that is cut off": (
        {"r.json": json.dumps(OBJECTS, indent=1).encode()[:-40]},
        named("r.json"),
        ("write one JSON object per line",),
    ),
}


@pytest.mark.parametrize("name", sorted(TOLD))
def test_one_line_says_how_to_mend_it(tmp_path: Path, name: str) -> None:
    files, interactions, words = TOLD[name]
    found = check(dataset(tmp_path, files, interactions=interactions))
    assert told([*found.problems, *found.warnings], *words), [*found.problems, *found.warnings]


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("r.json", json.dumps({"data": OBJECTS}).encode(), {}),
        ("r.csv", b"Shop, all ratings\n\n" + CSV, {"skip_lines": 1}),
        ("r.txt", delimited(HEADER, ROWS, " | "), {"separator": "|"}),
        ("r.csv", CSV.decode().encode("utf-16-le"), {"encoding": "utf-16-le"}),
    ],
    ids=["a list under a key", "a title before the header", "bars with blanks", "UTF-16 without a mark"],
)
def test_a_first_file_of_it_is_ready(tmp_path: Path, name: str, content: bytes, settings: dict[str, object]) -> None:
    folder, lake = write(tmp_path, {name: content, "items.csv": items_csv()}), tmp_path / "lake"
    (lake / "catalog").mkdir(parents=True)
    done = new_dataset([folder / name, folder / "items.csv"], lake / "catalog" / "shop.toml", lake)
    assert done.report.problems == [] and done.decisions == []
    table = load_dataset(done.path).interactions
    assert {key: getattr(table, key) for key in settings} == settings
    assert tables(done.path).interactions.height == len(ROWS)
