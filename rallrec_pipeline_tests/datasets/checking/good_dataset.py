"""A dataset without a fault, what tests change in it, and what a check of it tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.checking.report import CheckReport, check_dataset

TOML = """
title = "Mine"

[source]
kind = "folder"
location = "{folder}"

[interactions]
file = "ratings.{ending}"
columns = {{ user_id = "user", item_id = "item", rating = "stars", timestamp = "when" }}

[items]
file = "items.{ending}"
columns = {{ item_id = "item", title = "name", genre = "genre" }}

[users]
file = "users.{ending}"
columns = {{ user_id = "user", age = "age" }}

[protocol]
min_history = 5

[label]
scale = [1, 2, 3, 4, 5]
like_above = 3
"""
USERS, ITEMS, EACH, START = 60, 30, 25, 1_600_000_000
TABLES = ("ratings", "items", "users")

Frames = dict[str, pl.DataFrame]
Change = Callable[[pl.Expr], pl.Expr]


@cache
def good_frames(users: int = USERS) -> Frames:
    """A dataset without a fault: each user rates 25 of 30 items, from 1 to 5."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(ITEMS)[:EACH] for _ in range(users)])
    n = users * EACH
    ratings = pl.DataFrame(
        {
            "user": [f"u{i // EACH}" for i in range(n)],
            "item": [f"i{i}" for i in items],
            "stars": rng.integers(1, 6, n),
            "when": START + 100 * rng.permutation(n),
        }
    )
    names = {"item": [f"i{i}" for i in range(ITEMS)], "name": [f"Film {i}" for i in range(ITEMS)]}
    catalogue = pl.DataFrame(names).with_columns(pl.lit("Drama").alias("genre"))
    people = pl.DataFrame({"user": [f"u{i}" for i in range(users)], "age": [20 + i % 50 for i in range(users)]})
    return {"ratings": ratings, "items": catalogue, "users": people}


def write(path: Path, frame: pl.DataFrame) -> None:
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path)


def make(
    root: Path, ending: str = "csv", toml: tuple[tuple[str, str], ...] = (), raters: int = USERS, **frames: pl.DataFrame
) -> Path:
    """The TOML file of a dataset whose files lie in `root/data`; `toml` replaces parts of its text."""
    folder = root / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (good_frames(raters) | frames).items():
        write(folder / f"{name}.{ending}", frame)
    text = TOML.format(folder=folder.as_posix(), ending=ending)
    for old, new in toml:
        assert old in text
        text = text.replace(old, new)
    path = root / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def check(path: Path) -> CheckReport:
    found = check_dataset(path, path.parent / "lake")
    lines = [*found.problems, *found.warnings]
    assert all(len(line.splitlines()) == 1 and ".check-" not in line for line in lines)
    return found


def nth(n: int) -> pl.Expr:
    return pl.int_range(pl.len()) % n == 0


def some(column: str, value: object, n: int = 10) -> Change:
    """Every n-th value of a column is another."""
    return lambda _: pl.when(nth(n)).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String)).alias(column)


def changed(name: str, column: str, value: object, n: int = 10) -> Frames:
    return {name: good_frames()[name].with_columns(some(column, value, n)(pl.col(column)))}
