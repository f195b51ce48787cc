"""The user's own data: one TOML file each, through the whole graph and no line of Python."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.datasets.drafting.new import new_dataset
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline_tests.pipeline.given import in_force_now
from rallrec_pipeline_tests.pipeline.tiny import make_world

SHOP = """
title = "A shop"

[source]
kind = "folder"
location = "../shop"

[interactions]
file = "orders.csv"
columns = { user_id = "customer", item_id = "sku", timestamp = { column = "day", time_format = "%Y-%m-%d" } }

[items]
file = "products.jsonl"
columns = { item_id = "sku", title = "name", kind = { column = "tags", pick = 1 } }

[users]
file = "customers.parquet"
columns = { user_id = "customer", town = "town" }

[protocol]
user_core = 3
item_core = 3
min_history = 3

[label]
negatives = 1

[words]
item = "product"
items = "products"
"""

BOOKS = """
title = "Books"

[source]
kind = "folder"
location = "../books"

[interactions]
file = "ratings.csv"
separator = ";"
columns = { user_id = "reader", item_id = "book", rating = "points" }

[items]
file = "books.csv"
columns = { item_id = "book", title = "title" }

[protocol]
user_core = 3
item_core = 3
min_history = 2
split = "user"

[label]
scale = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
like_above = 6
"""
KINDS = ("tea", "cup", "pot", "spoon")


def write_shop(folder: Path, rng: np.random.Generator) -> None:
    """30 customers, each with a taste for one kind of 12 products; one order line is broken."""
    folder.mkdir()
    orders = []
    for customer in range(30):
        weights = np.where(np.arange(12) % 4 == customer % 4, 5.0, 1.0)
        chosen = rng.choice(12, 6, replace=False, p=weights / weights.sum())
        orders += [f"c{customer},p{item},2024-{1 + n:02d}-{1 + customer % 28:02d}" for n, item in enumerate(chosen)]
    (folder / "orders.csv").write_text(
        "\n".join(["customer,sku,day", *orders, "c1,p1,yesterday", ""]), encoding="utf-8"
    )
    products = [
        {"sku": f"p{i}", "name": f"{KINDS[i % 4].title()} No. {i}", "tags": [KINDS[i % 4], "x"]} for i in range(12)
    ]
    (folder / "products.jsonl").write_text("".join(json.dumps(p) + "\n" for p in products), encoding="utf-8")
    pl.DataFrame({"customer": [f"c{i}" for i in range(30)], "town": ["Ulm"] * 30}).write_parquet(
        folder / "customers.parquet"
    )


def write_books(folder: Path, rng: np.random.Generator) -> None:
    """150 readers of 12 books, ratings up to ten, no times, no profiles."""
    folder.mkdir()
    quality, taste = rng.normal(6.5, 2, 12), rng.normal(0, 1, 150)
    ratings = [
        f"r{reader};b{book};{int(np.clip(round(quality[book] + taste[reader] + rng.normal()), 1, 10))}"
        for reader in range(150)
        for book in rng.choice(12, 5, replace=False)
    ]
    (folder / "ratings.csv").write_text("\n".join(["reader;book;points", *ratings, ""]), encoding="utf-8")
    books = [f'b{i},"Book {i}, the ""{i}th"""' for i in range(12)]
    (folder / "books.csv").write_text("\n".join(["book,title", *books, ""]), encoding="utf-8")


def test_a_shop_of_one_toml_file_runs_end_to_end_with_the_real_llm(
    slice_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = slice_lake / "few.toml"
    text = Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    for old, new in (("train_samples = 12", 6), ("validation_samples = 16", 10), ("test_samples = 24", 14)):
        assert old in text
        text = text.replace(old, f"{old.split()[0]} = {new}")
    few.write_text(text, encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(few))
    write_shop(slice_lake / "shop", np.random.default_rng(7))
    run_end_to_end(slice_lake, "shop", SHOP)
    assert refused(slice_lake, "shop") == ["impossible timestamp"]


def test_books_of_one_toml_file_run_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a random LLM of few weights: ten answers, the last of two tokens, no times and no profiles."""
    lake = make_world(tmp_path, monkeypatch, ())
    write_books(lake / "books", np.random.default_rng(7))
    run_end_to_end(lake, "books", BOOKS)
    assert refused(lake, "books") == []
    predictions = read_table(tables.predictions_table("rallrec"), lake, "books")
    assert set(predictions["probabilities"].list.len()) == {10}


def published_ratings(rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """1,200 ratings (user, item, stars, time): 60 users, each with an opinion of 20 of 24 items."""
    quality, taste = rng.normal(3.3, 1, 24), rng.normal(0, 0.7, 60)
    rows = []
    for user in range(60):
        for n, item in enumerate(rng.permutation(24)[:20]):
            stars = int(np.clip(round(quality[item] + taste[user] + rng.normal()), 1, 5))
            rows.append((user, int(item), stars, 1_500_000_000 + 86_400 * (7 * n + user % 7)))
    return rows


def write_amazon_2018(folder: Path, rng: np.random.Generator) -> None:
    """The two official files, gzipped: reviews and metadata."""
    reviews = [
        {"overall": float(stars), "verified": True, "reviewTime": "09 13, 2020", "reviewerID": f"A{user:05d}",
         "asin": f"B{item:09d}", "reviewText": "fine, \u00e9", "summary": "Five Stars", "unixReviewTime": when}
        for user, item, stars, when in published_ratings(rng)
    ]  # fmt: skip
    meta = [
        {"category": ["Movies & TV", f"Genre {item % 3}"], "description": [], "title": f"Film &amp; {item}",
         "brand": f"Brand {item % 4}", "rank": "1", "also_buy": [], "asin": f"B{item:09d}"} for item in range(24)
    ]  # fmt: skip
    for name, rows in (("Movies_and_TV.json.gz", reviews), ("meta_Movies_and_TV.json.gz", meta)):
        (folder / name).write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_movielens_25m(folder: Path, rng: np.random.Generator) -> None:
    """The four files that matter, half stars and quoted titles."""
    ratings = [f"{user + 1},{item + 1},{stars - 0.5},{when}" for user, item, stars, when in published_ratings(rng)]
    movies = [f'{item + 1},"Film {item}, The ({1980 + item})",Drama|Genre {item % 3}' for item in range(24)]
    files = {
        "ratings.csv": ["userId,movieId,rating,timestamp", *ratings],
        "movies.csv": ["movieId,title,genres", *movies],
        "links.csv": ["movieId,imdbId,tmdbId", *(f"{item + 1},{item:07d},{item}" for item in range(24))],
        "tags.csv": ["userId,movieId,tag,timestamp", '1,1,"funny, very",1500000000'],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_amazon_2018, write_movielens_25m])
def test_published_files_run_from_a_drafted_file_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, np.random.Generator], None]
) -> None:
    lake = make_world(tmp_path, monkeypatch, ())
    (tmp_path / "published").mkdir()
    write(tmp_path / "published", np.random.default_rng(7))
    done = new_dataset([tmp_path / "published"], lake / "catalog" / "films.toml", lake)
    assert done.report.problems == [] and done.decisions == []
    run_end_to_end(lake, "films", done.path.read_text(encoding="utf-8"))
    assert refused(lake, "films") == []
    assert read_table(tables.ITEMS, lake, "films")["title"].str.contains("^(Film & |The Film )").all()


def run_end_to_end(lake: Path, name: str, toml: str) -> None:
    """Every stage works and every check holds for the dataset that `toml` describes."""
    file = lake / "catalog" / f"{name}.toml"
    file.write_text(toml, encoding="utf-8")
    try:
        summary = materialize_dataset(name)
    finally:
        file.unlink()
    assert summary.error is None
    # Models are shared with other datasets, so another test may have made them.
    assert all(summary.worked[stage.name] for stage in GRAPH if stage.partitioned) and len(summary.worked) == len(GRAPH)
    assert summary.checks and all(summary.checks.values())
    report = json.loads((lake / "reports" / name / "evaluation.json").read_text(encoding="utf-8"))
    assert report["methods"]["rallrec"]["n"] == report["n_test"] > 0
    assert all(0 <= method["auc"] <= 1 and method["log_loss"] > 0 for method in report["methods"].values())
    record = in_force_now(lake, name, "evaluation_report")
    for method, figures in report["methods"].items():
        assert all(record.metadata[f"{measure}_{method}"] == figures[measure] for measure in ("auc", "log_loss"))
        assert record.metadata.get(f"uauc_{method}") == figures["uauc"]  # the UI shows no figure that is not defined


def refused(lake: Path, name: str) -> list[str]:
    """Why rows were refused."""
    return read_table(tables.REJECTED_ROWS, lake, name)["reason"].to_list()
