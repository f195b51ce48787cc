"""Rows of a forgotten user leave raw files of every format; what is left is read as it was, and nothing comes back."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.catalog import load_dataset
from rallrec_pipeline.datasets.file_spec import FileSpec
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.datasets.readers import raw_folder, read_raw
from rallrec_pipeline.datasets.redaction import Redaction, redaction_of
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.tombstones import add_tombstone, read_tombstones, tombstone_file
from rallrec_pipeline_tests.datasets.brought import (
    HEADER,
    RATED,
    Files,
    dataset,
    delimited,
    items_csv,
    json_lines,
    parquet,
    ratings_csv,
    world,
)

USER = "u1"  # part of u10 to u15
ROWS = [dict(zip(HEADER, row, strict=True)) for row in world()]


def arrow(frame: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    frame.write_ipc(stream)
    return stream.getvalue()


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def by_user(ending: str, write: Callable[[pl.DataFrame], bytes]) -> Files:
    """A folder for each user, as Spark writes them."""
    parts = RATED.partition_by("user_id", as_dict=True)
    return {f"parts/user_id={user}/part-0.{ending}": write(rows.drop("user_id")) for (user,), rows in parts.items()}


def lines(frame: pl.DataFrame) -> bytes:
    return json_lines(frame.rows(named=True))


def pretty(frame: pl.DataFrame) -> bytes:
    """Objects in a row, each over several lines."""
    return "\n".join(json.dumps(row, indent=2) for row in frame.rows(named=True)).encode()


HALVES = RATED.head(70), RATED.tail(74)
QUOTED = "user_id,item_id,rating,timestamp,note\n" + "".join(
    f'"{user}",{item},{rating},{time},"two\nlines, ""{other}"""\n'
    for (user, item, rating, time), other in zip(world(), reversed([row[0] for row in world()]), strict=True)
)
SHAPES: dict[str, tuple[Files, str]] = {
    "csv": ({"ratings.csv": ratings_csv()}, "ratings.csv"),
    "tsv": ({"ratings.tsv": ratings_csv("\t")}, "ratings.tsv"),
    "lines end in CR LF": ({"ratings.csv": ratings_csv().replace(b"\n", b"\r\n")}, "ratings.csv"),
    "lines end in CR": ({"ratings.csv": ratings_csv().replace(b"\n", b"\r")}, "ratings.csv"),
    "records of two lines": ({"ratings.csv": QUOTED.encode()}, "ratings.csv"),
    "UTF-16": ({"ratings.csv": ratings_csv().decode().encode("utf-16")}, "ratings.csv"),
    "gzip": ({"ratings.csv.gz": gzip.compress(ratings_csv())}, "ratings.csv.gz"),
    "bz2": ({"ratings.csv.bz2": bz2.compress(ratings_csv())}, "ratings.csv.bz2"),
    "xz": ({"ratings.csv.xz": lzma.compress(ratings_csv())}, "ratings.csv.xz"),
    "zip": ({"ratings.csv.zip": zipped("ratings.csv", ratings_csv())}, "ratings.csv.zip"),
    "a JSON list": ({"ratings.json": json.dumps(ROWS).encode()}, "ratings.json"),
    "a pretty JSON list": ({"ratings.json": json.dumps(ROWS, indent=2).encode()}, "ratings.json"),
    "json lines": ({"ratings.jsonl": json_lines(ROWS)}, "ratings.jsonl"),
    "parquet": ({"ratings.parquet": parquet(RATED)}, "ratings.parquet"),
    "packed parquet": ({"ratings.parquet.gz": gzip.compress(parquet(RATED))}, "ratings.parquet.gz"),
    "arrow": ({"ratings.arrow": arrow(RATED)}, "ratings.arrow"),
    "parts": ({f"parts/{n}.csv": delimited(HEADER, half.rows()) for n, half in enumerate(HALVES)}, "parts"),
    "parts of pretty JSON objects": ({f"parts/{n}.json": pretty(half) for n, half in enumerate(HALVES)}, "parts"),
    "pretty JSON objects before JSON lines": (
        {"parts/a.json": pretty(RATED.head(2)), "parts/b.json": json_lines(ROWS[2:])},
        "parts",
    ),
    "parts of JSON lines": ({f"parts/{n}.json": lines(half) for n, half in enumerate(HALVES)}, "parts"),
    "a JSON list beside an empty part": (
        {"parts/a.json": json.dumps(ROWS, indent=2).encode(), "parts/b.json": b"\n"},
        "parts",
    ),
    "parquet parts": ({f"parts/{n}.parquet": parquet(half) for n, half in enumerate(HALVES)}, "parts"),
    "a folder for each user": (by_user("parquet", parquet), "parts"),
    "a folder with CSV for each user": (by_user("csv", lambda rows: rows.write_csv().encode()), "parts"),
    "a folder with JSON lines for each user": (by_user("json", lines), "parts"),
    "a folder with pretty JSON for each user": (by_user("json", pretty), "parts"),
}


def made(root: Path, files: Files, name: str) -> tuple[DatasetSpec, Path]:
    """A dataset whose raw files are fetched, and its lake."""
    form = "parquet" if any(part.endswith(".parquet") for part in files) and name == "parts" else ""
    form = form or ("json_lines" if any(part.startswith("parts/") and part.endswith(".json") for part in files) else "")
    form = form or ("csv" if name == "parts" else "")
    encoding = 'encoding = "utf-16"\n' if any(part.startswith(b"\xff\xfe") for part in files.values()) else ""
    told = f'file = "{name}"\n' + (f'format = "{form}"\n' if form else "") + encoding
    path = dataset(root, {**files, "items.csv": items_csv()}, interactions=told)
    spec, lake = load_dataset(path), root / "lake"
    fetch_raw_files(spec, lake)
    return spec, lake


def forget(spec: DatasetSpec, lake: Path, *users: str) -> Redaction:
    for user in users:
        stones = read_tombstones(lake, spec.name)
        add_tombstone(lake, spec.name, stones, stones.hash_of(user))
    found = redaction_of(spec, lake)
    assert found is not None
    return found


def raw_bytes(lake: Path, spec: DatasetSpec) -> dict[str, bytes]:
    folder = raw_folder(lake, spec.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rows_of_a_user_leave_a_file_of_every_format(shape: str, tmp_path: Path) -> None:
    spec, lake = made(tmp_path, *SHAPES[shape])
    before = read_raw(spec, lake)
    assert before.interactions.height == len(world()), shape
    redaction = forget(spec, lake, USER)
    assert redaction.count(spec.files[0]) == 9
    fetch_raw_files(spec, lake)
    after = read_raw(spec, lake)
    assert after.interactions.equals(before.interactions.filter(pl.col("user_id") != USER))
    assert after.items.equals(before.items) and redaction.count(spec.files[0]) == 0
    assert not [name for name in raw_bytes(lake, spec) if f"={USER}/" in name or "tmp" in name]
    moments = raw_bytes(lake, spec)
    fetch_raw_files(spec, lake)
    assert raw_bytes(lake, spec) == moments, "done once"


def test_of_a_document_that_nobody_can_part_nothing_is_rewritten(tmp_path: Path) -> None:
    text = json.dumps(ROWS, indent=2).splitlines(keepends=True)
    halves = {"parts/a.json": "".join(text[:300]).encode(), "parts/b.json": "".join(text[300:]).encode()}
    spec, lake = made(tmp_path, halves, "parts")
    assert read_raw(spec, lake).interactions.height == len(ROWS)
    forget(spec, lake, USER)
    before = raw_bytes(lake, spec)
    with pytest.raises(DataError, match="nobody can say which part holds which record"):
        fetch_raw_files(spec, lake)
    assert raw_bytes(lake, spec) == before


def test_of_a_text_all_other_bytes_stay(tmp_path: Path) -> None:
    content = ratings_csv() + b'broken,line\nu1,\nsaid "u1", and more\nu11,broken\n\xff\xfe,i1,x,1\n'
    spec, lake = made(tmp_path, {"ratings.csv": content}, "ratings.csv")
    forget(spec, lake, USER)
    fetch_raw_files(spec, lake)
    lines = content.splitlines(keepends=True)
    gone = [line for line in lines if line.startswith(b"u1,") or b'"u1"' in line]
    assert len(gone) == 11, "also rows that are no ratings, where they name the user"
    assert raw_bytes(lake, spec)["ratings.csv"] == b"".join(line for line in lines if line not in gone)


def test_a_file_with_a_pinned_checksum_stays_good_and_one_that_is_fetched_again_is_without(tmp_path: Path) -> None:
    spec, lake = made(tmp_path, {"ratings.csv": ratings_csv()}, "ratings.csv")
    found = raw_bytes(lake, spec).items()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in found if name[0] != "."}
    files = tuple(FileSpec(name=name, sha256=total) for name, total in sums.items())
    spec = spec.model_copy(update={"source": spec.source.model_copy(update={"files": files})})
    redaction = forget(spec, lake, USER)
    fetch_raw_files(spec, lake)
    assert redaction.count(spec.files[0]) == 0 and all(redaction.is_good(file) for file in spec.files)
    path = raw_folder(lake, spec.name) / "ratings.csv"
    moment = path.stat().st_mtime_ns
    (tmp_path / "data" / "ratings.csv").unlink()
    fetch_raw_files(spec, lake)
    assert path.stat().st_mtime_ns == moment, "what is good is not fetched again"
    (tmp_path / "data" / "ratings.csv").write_bytes(ratings_csv())
    for harm in (path.unlink, lambda: path.write_bytes(b"garbage"), lambda: path.write_bytes(ratings_csv())):
        harm()
        fetch_raw_files(spec, lake)
        assert redaction.count(spec.files[0]) == 0 and redaction.is_good(spec.files[0])
    (tmp_path / "data" / "ratings.csv").write_bytes(b"others")
    path.unlink()
    with pytest.raises(DataError, match="has SHA-256"):
        fetch_raw_files(spec, lake)


def test_a_source_that_brings_the_user_back_is_fetched_without(tmp_path: Path) -> None:
    spec, lake = made(tmp_path, {"ratings.csv": ratings_csv()}, "ratings.csv")
    forget(spec, lake, USER)
    fetch_raw_files(spec, lake)
    grown = ratings_csv() + b"u1,i11,5,1900000000\nu99,i11,5,1900000000\n"
    (tmp_path / "data" / "ratings.csv").write_bytes(grown)
    fetch_raw_files(spec, lake)
    users = set(read_raw(spec, lake).interactions["user_id"])
    assert "u99" in users and USER not in users


def test_two_users_one_after_the_other(tmp_path: Path) -> None:
    spec, lake = made(tmp_path, {"ratings.csv": ratings_csv()}, "ratings.csv")
    forget(spec, lake, USER)
    fetch_raw_files(spec, lake)
    redaction = forget(spec, lake, "u12", "u12")
    assert len(redaction.stones.users) == 2 and redaction.count(spec.files[0]) == 9
    fetch_raw_files(spec, lake)
    assert set(read_raw(spec, lake).interactions["user_id"]) == set(RATED["user_id"]) - {USER, "u12"}


def test_a_list_that_is_damaged_stops_a_fetch_in_one_line(tmp_path: Path) -> None:
    spec, lake = made(tmp_path, {"ratings.csv": ratings_csv()}, "ratings.csv")
    forget(spec, lake, USER)
    path = tombstone_file(lake, spec.name)
    for content in (path.read_text().replace('"key": "', '"key": "0'), "{", "[]", ""):
        path.write_text(content)
        with pytest.raises(DataError, match="nobody knows whom to leave out: restore it") as told:
            fetch_raw_files(spec, lake)
        assert "\n" not in str(told.value)


def test_the_list_names_nobody(tmp_path: Path) -> None:
    spec, lake = made(tmp_path, {"ratings.csv": ratings_csv()}, "ratings.csv")
    stones = forget(spec, lake, USER).stones
    text = tombstone_file(lake, spec.name).read_text()
    assert json.loads(text)["users"] == list(stones.users) and len(stones.users[0]) == 32
    assert stones.among(["u10", USER, "U1", "u1 ", ""]) == [USER]
    other = read_tombstones(tmp_path / "other", spec.name)
    assert other.hash_of(USER) != stones.hash_of(USER), "another lake, another key"


IDS = ("u1", "u11", "-u1", "1", 'u"1', "u,1", "ü", "{u1}")
LETTERS = st.text('u1,"\n\r\t;x é', max_size=4)


@settings(max_examples=12)
@given(
    rows=st.lists(st.tuples(st.sampled_from(IDS), LETTERS), min_size=1, max_size=8),
    user=st.sampled_from(IDS),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_whoever_is_forgotten_the_others_are_read_as_before(rows: list[tuple[str, str]], user: str, kind: str) -> None:
    told = [(user_id, f"i{n}", 3, n, note) for n, (user_id, note) in enumerate(rows)]
    with TemporaryDirectory() as root:
        spec, lake = made(Path(root), {f"ratings.{kind}": WRITERS[kind](told)}, f"ratings.{kind}")
        spec = spec.model_copy(update={"unknown_items": "keep"})
        before = read_raw(spec, lake).interactions
        forget(spec, lake, user)
        fetch_raw_files(spec, lake)
        assert read_raw(spec, lake).interactions.equals(before.filter(pl.col("user_id") != user))


def as_csv(rows: list[tuple[str, str, int, int, str]]) -> bytes:
    frame = pl.DataFrame(rows, schema=[*HEADER, "note"], orient="row")
    return frame.write_csv(quote_style="non_numeric").encode()


def as_json(rows: list[tuple[str, str, int, int, str]]) -> bytes:
    return json_lines([dict(zip((*HEADER, "note"), row, strict=True)) for row in rows])


WRITERS: dict[str, Callable[[list[tuple[str, str, int, int, str]]], bytes]] = {"csv": as_csv, "jsonl": as_json}
