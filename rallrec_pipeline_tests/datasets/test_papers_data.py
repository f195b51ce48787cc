"""The built-in datasets on real files: Book-Crossing and Amazon subsets where they lie beside the repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables
from rallrec_pipeline_tests.datasets.published import bounded_core, samples

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


def test_bookcrossing_as_published_keeps_all_ratings_of_the_selected_books(tmp_path: Path) -> None:
    spec, raw = read("bookcrossing", "published", tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    whole = raw.interactions.select(user="user_id", item="item_id").to_pandas()
    inner = bounded_core(whole, (11, 200), (10, float("inf")))
    chosen = whole[whole["item"].isin(inner["item"])]
    kept = chosen[chosen["user"].map(chosen["user"].value_counts()) >= 5]
    assert set(core.select("user_id", "item_id").rows()) == set(kept.itertuples(index=False, name=None))


def test_amazon_movies_is_read_whole(tmp_path: Path) -> None:
    spec, raw = read("amazon-movies", "five_core", tmp_path)
    assert sizes(raw.interactions) == (57_019, 2_579, 3_107)
    assert raw.rejected.is_empty() and raw.items.height == 3_084
    assert raw.items.filter(pl.col("genre") == "").height == 118
    core = core_of(raw.interactions, raw.items, spec.protocol)
    assert core["item_id"].n_unique() == 3_107, "items without a metadata line stay"


def test_amazon_movies_as_published_equals_the_same_rules_in_pandas(tmp_path: Path) -> None:
    spec, raw = read("amazon-movies", "published", tmp_path)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    made = make_samples(core, spec.protocol, spec.label)
    assert sizes(core) == (31_150, 1_273, 1_753) and made.height == 24_785

    lines = pd.read_json(REAL / "amazon-movies" / "Movies_and_TV.json", lines=True, dtype={"asin": str})
    movies = pd.read_json(REAL / "amazon-movies" / "meta_Movies_and_TV.json", lines=True, dtype={"asin": str})
    with_genre = movies.loc[movies["category"].map(len) == 3, "asin"]
    ratings = lines.rename(columns={"reviewerID": "user", "asin": "item", "unixReviewTime": "time"})
    inner = bounded_core(ratings[ratings["item"].isin(with_genre)], (11, 200), (10, 200))
    assert set(core.select("user_id", "item_id").rows()) == set(
        inner[["user", "item"]].itertuples(index=False, name=None)
    )
    expected = samples(inner)
    assert made["split"].value_counts(sort=True)["count"].to_list() == sorted(expected["split"].value_counts())[::-1]

    # Users of one day come in another order (docs/datasets.md): only samples of a day on which a split begins differ.
    theirs = {(row.user, row.item): (row.history, row.split) for row in expected.itertuples()}
    ours = {
        row[:2]: row[2:] for row in made.select("user_id", "item_id", "history_length", "split", "timestamp").rows()
    }
    assert {pair: found[0] for pair, found in ours.items()} == {pair: found[0] for pair, found in theirs.items()}
    moved = {found[2] for pair, found in ours.items() if found[1] != theirs[pair][1]}
    begins = made.filter(pl.col("split") != "train").group_by("split").agg(pl.col("timestamp").min())["timestamp"]
    assert moved <= set(begins)
