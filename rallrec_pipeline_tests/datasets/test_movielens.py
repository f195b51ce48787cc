"""The real MovieLens-100K, from its files to its samples."""

from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.datasets.histories import make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import k_core
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables


@pytest.fixture(scope="module")
def lake(movielens: Path) -> Path:
    return movielens.parents[1]


@pytest.fixture
def raw(lake: Path, spec: DatasetSpec) -> RawTables:
    return read_raw(spec, lake)


def test_every_row_of_the_files_is_taken(raw: RawTables) -> None:
    assert (raw.interactions.height, raw.items.height, raw.users.height) == (100_000, 1_682, 943)
    assert raw.rejected.is_empty()


def test_items_are_fit_to_be_read(raw: RawTables) -> None:
    items = {row["item_id"]: row for row in raw.items.rows(named=True)}
    assert items["14"]["title"] == "Il Postino"
    assert items["1"]["genres"] == "Animation, Children's, Comedy"
    assert (items["267"]["title"], items["267"]["year"]) == ("unkonwn", "")
    assert not raw.items["title"].str.contains(r", (The|A|An)$").any()
    assert raw.items["year"].str.contains(r"^(19\d\d)?$").all()


def test_core_and_samples_have_the_known_sizes(raw: RawTables, spec: DatasetSpec) -> None:
    core = k_core(raw.interactions, 5, 5)
    assert (core.height, core["user_id"].n_unique(), core["item_id"].n_unique()) == (99_287, 943, 1_349)
    samples = make_samples(core, spec.protocol, spec.label)
    sizes = {str(split): n for split, n in samples["split"].value_counts().iter_rows()}
    assert sizes == {"train": 75_657, "valid": 9_457, "test": 9_458}
    assert training_interactions(core, samples).height == 79_398
    assert samples.select(pl.col("label").mean()).item() == pytest.approx(0.55, abs=0.02)


def test_without_the_core_the_test_split_is_larger(raw: RawTables, spec: DatasetSpec) -> None:
    samples = make_samples(k_core(raw.interactions, 1, 1), spec.protocol, spec.label)
    assert (samples["split"] == "test").sum() == 9_529
