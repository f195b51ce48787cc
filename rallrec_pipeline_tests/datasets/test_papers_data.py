"""The built-in datasets on real files: Book-Crossing and Amazon subsets where they lie beside the repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables

REAL = Path(os.environ.get("RALLREC_REAL_DATA") or Path(__file__).parents[3] / "shared" / "datasets")


def read(name: str, protocol: str, lake: Path) -> tuple[DatasetSpec, RawTables]:
    if not (REAL / name).is_dir():
        pytest.skip(f"no real files of {name} in {REAL}: set RALLREC_REAL_DATA to a folder that has them")
    shutil.copytree(REAL / name, lake / "raw" / name)
    spec = get_dataset(name, lake, protocol)
    return spec, read_raw(spec, lake)


def sizes(frame: pl.DataFrame) -> tuple[int, int, int]:
    return frame.height, frame["user_id"].n_unique(), frame["item_id"].n_unique()


def test_bookcrossing_is_read_whole_and_has_the_known_core(tmp_path: Path) -> None:
    spec, raw = read("bookcrossing", "five_core", tmp_path)
    assert sizes(raw.interactions) == (204_164, 48_299, 18_185)
    assert (raw.items.height, raw.users.height, raw.rejected.height) == (18_185, 48_299, 0)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    assert sizes(core) == (110_501, 6_564, 8_771)
    assert raw.items.filter(pl.col("title") == "").is_empty()
    assert set(raw.users["age"]) > {"", "under 18", "25-29", "60+"} and "usa" in set(raw.users["country"])
    samples = make_samples(in_protocol_order(core, spec.protocol, 1), spec.protocol, spec.label, 1)
    assert samples.height == 6_564 and 0.55 < float(samples["label"].mean()) < 0.65  # type: ignore[arg-type]


def test_bookcrossing_as_published_keeps_the_most_rated_books(tmp_path: Path) -> None:
    spec, raw = read("bookcrossing", "published", tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    assert core["item_id"].n_unique() <= 3_547 and core["user_id"].value_counts()["count"].min() == 5


def test_amazon_movies_is_read_whole(tmp_path: Path) -> None:
    spec, raw = read("amazon-movies", "five_core", tmp_path)
    assert sizes(raw.interactions) == (57_019, 2_579, 3_107)
    assert raw.rejected.is_empty() and raw.items.height == 3_084
    assert raw.items.filter(pl.col("genre") == "").height == 118
    core = core_of(raw.interactions, raw.items, spec.protocol)
    assert core["item_id"].n_unique() == 3_107, "items without a metadata line stay"


def test_amazon_movies_as_published_wants_a_genre_and_bounded_activity(tmp_path: Path) -> None:
    spec, raw = read("amazon-movies", "published", tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    users, items = (core[key].value_counts()["count"] for key in ("user_id", "item_id"))
    assert (users.min(), items.min()) == (11, 10) and users.max() <= 200 and items.max() <= 200
    with_genre = raw.items.filter(pl.col("genre") != "")
    assert core.join(with_genre, on="item_id", how="anti").is_empty()
