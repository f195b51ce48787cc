"""A search of the lake, and of Dagster's storage, for what is left of a user.

Ids are short words, and most of a lake is numbers. So an id with letters and figures, or a long one, is looked for as
a word in all texts; any other (`12`, `anna`) would be found in titles and ratings, too: there only places that name
users are looked at.
"""

from __future__ import annotations

import html
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from rallrec_pipeline.datasets.catalog import load_catalog
from rallrec_pipeline.datasets.endings import BINARY, format_of
from rallrec_pipeline.datasets.redaction import Redaction
from rallrec_pipeline.datasets.unpacking import open_plain
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.store import recorded_datasets
from rallrec_pipeline.pipeline.forgetting.holding import USER

DATABASES = {".sqlite", ".db"}
NUMBERS = {".safetensors", ".faiss", ".png", ".npy"}
LONG_ID = 8
NOT_SEARCHED = ("models", "locks")
Traces = Iterator[tuple[str, int]]
"""Places within a file, and how often each names the user."""
DAGSTER = ("storage", "history", "schedules", "logs")


@dataclass(frozen=True)
class Trace:
    """Where the user is still named, and how often."""

    file: str
    place: str
    count: int


@dataclass
class Found:
    """What was searched, and what was found."""

    everywhere: bool
    """Whether texts were searched for the id, too."""
    files: int = 0
    """Those that were read."""
    numbers: int = 0
    """Files of which none can hold an id: weights, indexes, pictures."""
    others: int = 0
    """Files that were not read: the id alone says too little, or only the dataset's own reader knows them."""
    traces: list[Trace] = field(default_factory=list)


def search_lake(lake: Path, redaction: Redaction, user_id: str, home: Path | None = None) -> Found:
    """Every place that names the user of the redaction's dataset; `home` is the folder of the Dagster instance."""
    words = _pattern(user_id)
    found = Found(words is not None)
    for file in redaction.spec.files:
        if rows := redaction.count(file):
            found.traces.append(Trace(f"raw/{redaction.spec.name}/{file.name}", "rows", rows))
    others = {*load_catalog(lake, lambda _: None), *recorded_datasets(lake)} - {redaction.spec.name, "_shared"}
    places = [(path, lake) for path in _files(lake) if not _is_of(path.relative_to(lake), others)]
    if home is not None and words is not None:
        places += [(path, home) for folder in DAGSTER for path in _files(home / folder)]
    for path, top in places:
        name = path.relative_to(top).as_posix()
        reader = _reader(path, name.startswith("raw/"), user_id, words)
        found.numbers += path.suffix in NUMBERS
        found.files += reader is not None
        found.others += reader is None and path.suffix not in NUMBERS
        found.traces += [Trace(name, place, count) for place, count in _traces(name, reader, words) if count]
    return found


def _pattern(user_id: str) -> re.Pattern[str] | None:
    """The id as a word, in each way in which documents may write it; None where it alone would match too much."""
    is_telling = len(user_id) >= LONG_ID or (any(map(str.isdigit, user_id)) and any(map(str.isalpha, user_id)))
    if not is_telling:
        return None
    ways = {user_id, html.escape(user_id), json.dumps(user_id)[1:-1], json.dumps(user_id, ensure_ascii=False)[1:-1]}
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(ways)))})(?![\w-])")


def _files(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if Path(folder, name) not in {top / one for one in NOT_SEARCHED})
        yield from (path for name in sorted(names) if not (path := Path(folder, name)).is_symlink())


def _is_of(place: Path, others: set[str]) -> bool:
    """Whether a file belongs to another dataset, whose users may have the same ids."""
    return any(part in others for part in place.parts[:-1]) or place.name.split(".")[0] in others


def _traces(name: str, reader: Traces | None, words: re.Pattern[str] | None) -> Traces:
    if words is not None:
        yield "its name", len(words.findall(name))
    try:
        yield from reader or ()
    except (pl.exceptions.PolarsError, sqlite3.Error, OSError, ValueError, DataError) as error:
        yield f"cannot be read ({type(error).__name__})", 1


def _reader(path: Path, is_raw: bool, user_id: str, words: re.Pattern[str] | None) -> Traces | None:
    """How a file is searched; None for one that is not. Users of raw files have been found by the dataset's reader."""
    if path.suffix in NUMBERS or (is_raw and words is None):
        return None
    if path.suffix == ".parquet":
        return _in_table(path, user_id, words)
    if words is None:
        return _among_users(path, user_id) if path.suffix == ".json" else None
    if path.suffix in DATABASES:
        return _in_database(path, words)
    return None if format_of(path.name) in BINARY else _in_text(path, words)


def _in_table(path: Path, user_id: str, words: re.Pattern[str] | None) -> Traces:
    frame = pl.scan_parquet(path, glob=False)
    for column, dtype in frame.collect_schema().items():
        value = pl.col(column).explode() if isinstance(dtype, pl.List) else pl.col(column)
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if inner != pl.String:
            continue
        texts = frame.select(value.alias("text")).filter(pl.col("text").is_not_null())
        if column == USER:
            count = texts.select((pl.col("text") == user_id).sum()).collect().item()
        elif words is not None:
            near = texts.filter(pl.col("text").str.contains(user_id, literal=True)).collect()["text"]
            count = sum(len(words.findall(text)) for text in near)
        else:
            continue
        yield f"column {column}", int(count)


def _in_database(path: Path, words: re.Pattern[str]) -> Traces:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda stored: stored.decode(errors="replace")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            quoted = '"' + table.replace('"', '""') + '"'
            rows = connection.execute(f"SELECT * FROM {quoted}")
            cells = (cell for row in rows for cell in row if isinstance(cell, str))
            yield f"table {table}", sum(len(words.findall(cell)) for cell in cells)


def _in_text(path: Path, words: re.Pattern[str]) -> Traces:
    """A file of any other kind, unpacked where it is packed."""
    with open_plain(path) as stream:
        yield "text", len(words.findall(stream.read().decode(errors="replace")))


def _among_users(path: Path, user_id: str) -> Traces:
    """Values and keys of a JSON file that name users."""
    yield "users", _named_users(json.loads(path.read_text(encoding="utf-8", errors="replace")), user_id)


def _named_users(value: object, user_id: str, of_users: bool = False) -> int:
    """How often a document names the user below a key that says it is about users."""
    if isinstance(value, dict):
        here = sum(of_users and key == user_id for key in value)
        return here + sum(_named_users(inner, user_id, of_users or "user" in key) for key, inner in value.items())
    if isinstance(value, list):
        return sum(_named_users(inner, user_id, of_users) for inner in value)
    return int(of_users and value == user_id)
