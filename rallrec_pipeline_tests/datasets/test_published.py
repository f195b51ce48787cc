"""The protocols `published` on generated files in the official formats, against the same rules in pandas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from benchmarks.generate import shape_of, write_dataset
from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of, selected_items
from rallrec_pipeline.datasets.readers import raw_folder, read_raw
from rallrec_pipeline_tests.datasets.published import bounded_core, samples

COLUMNS = ["user", "item", "rating", "time"]
ANY = float("inf")
BOOKS, READERS = 150, 150
OMNIVORE = READERS
LISTED = [f"{book:09d}X" for book in range(BOOKS) if book % 5]


def test_movielens_1m_has_the_published_samples_and_splits(tmp_path: Path) -> None:
    folder, shape = raw_folder(tmp_path, "movielens-1m"), shape_of("0.02")
    write_dataset(shape, folder)
    spec = get_dataset("movielens-1m", tmp_path, "published")
    raw = read_raw(spec, tmp_path)
    core = in_protocol_order(core_of(raw.interactions, raw.items, spec.protocol), spec.protocol, 1)
    made = make_samples(core, spec.protocol, spec.label, 1)

    expected = samples(pd.read_csv(folder / "ratings.dat", sep="::", engine="python", names=COLUMNS))
    assert core.height == shape.ratings and made.height == shape.ratings - 5 * shape.users
    assert made["user_id"].cast(pl.Int64).to_list() == expected["user"].to_list()
    assert made["item_id"].cast(pl.Int64).to_list() == expected["item"].to_list()
    assert made["history_length"].to_list() == expected["history"].to_list()
    assert made["split"].to_list() == expected["split"].to_list()
    assert made["label"].to_list() == (expected["rating"] > 3).astype(int).to_list()


def some_readings() -> pd.DataFrame:
    """Ratings of books by popularity; the omnivore has rated more than the selection allows."""
    rng = np.random.default_rng(8)
    popularity = 1 / (np.arange(BOOKS) + 5)
    rows = []
    for reader in range(READERS):
        books = rng.choice(BOOKS, int(rng.integers(3, 30)), replace=False, p=popularity / popularity.sum())
        rows += [(reader, f"{book:09d}X", int(rng.integers(0, 11))) for book in books]
    rows += [(OMNIVORE, f"{book:09d}X", 7) for book in range(BOOKS)]
    rows += [(OMNIVORE, f"{book:010d}", 7) for book in range(60)]
    return pd.DataFrame(rows, columns=COLUMNS[:3])


@pytest.fixture
def readings(tmp_path: Path) -> pd.DataFrame:
    """The readings, in the official files under `tmp_path`; one book in five is not listed."""
    folder = raw_folder(tmp_path, "bookcrossing")
    folder.mkdir(parents=True)
    made = some_readings()
    body = "".join(f'"{user}";"{item}";"{rating}"\n' for user, item, rating in made.itertuples(index=False))
    (folder / "BX-Book-Ratings.csv").write_text('"User-ID";"ISBN";"Book-Rating"\n' + body, encoding="cp1252")
    books = "".join(f'"{isbn}";"Book {isbn}";"A. Writer";"1999";"Press"\n' for isbn in LISTED)
    header = '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"\n'
    (folder / "BX-Books.csv").write_text(header + books, encoding="cp1252")
    users = "".join(f'"{user}";"a, b, usa";NULL\n' for user in range(READERS + 1))
    (folder / "BX-Users.csv").write_text('"User-ID";"Location";"Age"\n' + users, encoding="cp1252")
    return made


def test_bookcrossing_selects_the_published_books_and_counts_all_their_ratings(
    tmp_path: Path, readings: pd.DataFrame
) -> None:
    spec = get_dataset("bookcrossing", tmp_path, "published")
    raw = read_raw(spec, tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)

    inner = bounded_core(readings, (11, 200), (10, ANY))
    chosen = readings[readings["item"].isin(set(inner["item"]) & set(LISTED))]
    kept = chosen[chosen["user"].map(chosen["user"].value_counts()) >= 5]
    found = zip(core["user_id"].cast(pl.Int64), core["item_id"], core["rating"].cast(pl.Int64), strict=True)
    assert set(found) == set(kept.itertuples(index=False, name=None))
    assert raw.interactions.height == len(readings) and raw.rejected.is_empty()
    assert core["user_id"].n_unique() > inner["user"].nunique(), "users come back whom the selection leaves out"
    assert str(OMNIVORE) in set(core["user_id"]) and OMNIVORE not in set(inner["user"])

    assert spec.protocol.selection is not None
    listed = raw.interactions.filter(pl.col("item_id").is_in(LISTED))
    fewer = set(selected_items(listed, spec.protocol.selection)["item_id"])
    assert fewer != set(kept["item"]), "without the ratings of unlisted books others would be selected"
    made = make_samples(in_protocol_order(core, spec.protocol, 1), spec.protocol, spec.label, 1)
    assert made.height == made["user_id"].n_unique() == kept["user"].nunique() and made["history_length"].min() == 4


def test_the_papers_bookcrossing_leaves_unlisted_books_out(tmp_path: Path, readings: pd.DataFrame) -> None:
    spec = get_dataset("bookcrossing", tmp_path, "five_core")
    raw = read_raw(spec, tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    listed = readings[readings["item"].isin(LISTED)]
    expected = bounded_core(listed[listed["rating"] > 0], (5, ANY), (5, ANY))
    assert set(core.select("user_id", "item_id").rows()) == {
        (str(user), item) for user, item, _ in expected.itertuples(index=False)
    }
