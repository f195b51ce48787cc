"""`load`: a variant's tables for notebooks, and wrong names in one line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.store import put_in_force
from rallrec_pipeline.pipeline.load import load
from rallrec_pipeline_tests.lake.pruned_world import content_of
from rallrec_pipeline_tests.pipeline.given import store

FIRST = pl.DataFrame({"item_id": ["a", "b"], "title": ["Alien", "Brazil"]})
SECOND = FIRST.with_columns(pl.col("title").str.to_uppercase())


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Titles of two variants, and vectors in shards of one."""
    for variant, frame in (("demo", FIRST), ("loud", SECOND)):

        def write(root: Path, frame: pl.DataFrame = frame) -> list[Path]:
            return [write_table(frame, tables.CORE_ITEMS, root, "ml")]

        put_in_force(tmp_path, store(tmp_path, "ml", "core_items", write), variant, variant, {})
    vectors = pl.DataFrame({"item_id": ["a", "b"], "vector": pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=VECTOR)})
    empty = [pl.lit("").alias(name) for name in tables.PROVENANCE]

    def write_vectors(root: Path) -> list[Path]:
        return [write_table(vectors.with_columns(empty), tables.embeddings_table("item"), root, "ml")]

    put_in_force(tmp_path, store(tmp_path, "ml", "item_embeddings", write_vectors), "loud", "loud", {})
    return tmp_path


VECTOR = pl.Array(pl.Float32, 2)


def test_a_table_is_that_of_the_variant_that_ran_last_or_of_one_that_is_named(lake: Path) -> None:
    before = content_of(lake)
    assert_frame_equal(load("tables/core_items", "ml", lake=lake), SECOND)
    assert_frame_equal(load("tables/core_items", "ml", "demo", lake=lake), FIRST)
    assert content_of(lake) == before, "nothing is written"


def test_vectors_come_as_one_table_with_a_row_for_each_item(lake: Path) -> None:
    found = load("embeddings/item", "ml", lake=lake).sort("item_id")
    assert found["vector"].to_list() == [[1.0, 2.0], [3.0, 4.0]] and "data_version" in found.columns


def test_the_lake_is_that_of_the_environment(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RALLREC_LAKE", str(lake))
    assert load("tables/core_items", "ml").height == 2


@pytest.mark.parametrize(
    ("name", "dataset", "variant", "words"),
    [
        (
            "tables/core_itemz",
            "ml",
            None,
            ["no table 'tables/core_itemz' in 'loud'", "did you mean 'tables/core_items'"],
        ),
        ("zzz", "ml", None, ["there are embeddings/item, tables/core_items"]),
        ("embeddings/item", "ml", "demo", ["no table 'embeddings/item' in 'demo'"]),
        ("tables/core_items", "ml", "full", ["'ml' was never run as 'full'", "there are demo, loud"]),
        ("tables/core_items", "other", None, ["nothing was made of 'other'", "datasets with results are ml"]),
        ("tables/core_items", "..", None, ["nothing was made of '..'"]),
        ("../../tables/core_items", "ml", None, ["no table '../../tables/core_items'"]),
    ],
)
def test_a_wrong_name_is_one_line_with_the_right_ones(
    lake: Path, name: str, dataset: str, variant: str | None, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as told:
        load(name, dataset, variant, lake=lake)
    message = str(told.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_a_damaged_table_is_one_line(lake: Path) -> None:
    (lake / "tables" / "core_items" / "ml.parquet").write_bytes(b"damaged")
    with pytest.raises(DataError, match="is damaged") as told:
        load("tables/core_items", "ml", lake=lake)
    assert "\n" not in str(told.value) and "rallrec run ml" in str(told.value)
