"""Encoded vectors: found by key in shards and cache, and safe at every step of a commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.text import embeddings_frame
from rallrec_pipeline.lake import vectors as module
from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.vectors import VectorStore, vector_version, vectors_from_bytes

WIDTH = 5


def vector(key: str) -> NDArray[np.float32]:
    return np.random.default_rng(list(key.encode())).normal(size=WIDTH).astype(np.float32)


def commit(store: VectorStore, keys: list[str], run: str) -> None:
    store.add(keys, np.stack([vector(key) for key in keys]), run)
    found = store.find(keys)
    order = [found["key"].to_list().index(key) for key in keys]
    ids = [str(number) for number in range(len(keys))]
    store.commit(embeddings_frame(ids, vectors_from_bytes(found["vector"])[order], keys, "1", "model", run))


def assert_found(store: VectorStore, keys: list[str]) -> None:
    found = store.find(keys)
    assert sorted(found["key"]) == sorted(keys)
    for key, row in zip(found["key"], vectors_from_bytes(found["vector"]), strict=True):
        np.testing.assert_array_equal(row, vector(key))


def test_replaced_vectors_stay_and_current_ones_are_not_kept_twice(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "small", "title")
    commit(store, ["a", "b", "c"], "one")
    assert not list(store.cache.folder.glob("*.parquet"))
    commit(store, ["a", "x", "c"], "two")
    assert_found(store, ["a", "b", "c", "x"])
    assert len(list(store.cache.folder.glob("*.parquet"))) == 1
    commit(store, ["a", "b", "c"], "three")  # the revert
    assert_found(store, ["a", "b", "c", "x"])


@pytest.mark.parametrize("step", ["write_table", "drop_parts_within"])
def test_a_crash_in_a_commit_loses_no_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store = VectorStore(tmp_path, "small", "title")
    commit(store, ["a", "b", "c"], "one")
    before = module.write_table

    def crash(*args: object) -> None:
        if step == "write_table":
            raise KeyboardInterrupt
        before(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_table", crash)
    with pytest.raises(KeyboardInterrupt):
        commit(store, ["a", "x", "y"], "two")
    monkeypatch.undo()
    assert_found(VectorStore(tmp_path, "small", "title"), ["a", "b", "c", "x", "y"])


def test_stores_of_other_kinds_and_datasets_are_apart(tmp_path: Path) -> None:
    commit(VectorStore(tmp_path, "small", "title"), ["a"], "one")
    assert VectorStore(tmp_path, "small", "description").find(["a"]).is_empty()
    assert VectorStore(tmp_path, "other", "title").find(["a"]).is_empty()


def test_a_commit_of_other_widths_that_was_broken_off_can_be_finished(tmp_path: Path) -> None:
    """Another model: some shards have its vectors, the others those of the model before."""
    store = VectorStore(tmp_path, "small", "title")
    keys = [f"k{number}" for number in range(1200)]
    commit(store, keys, "one")
    shards = shard_files(store.table.file(tmp_path, "small"))
    assert len(shards) > 1
    wide = pl.read_parquet(shards[0]).with_columns(pl.lit([0.5] * 9, dtype=pl.Array(pl.Float32, 9)).alias("vector"))
    wide = wide.with_columns(
        pl.col("input_hash") + "w", pl.lit(vector_version(np.full(9, 0.5, "<f4").tobytes())).alias("data_version")
    )
    wide.write_parquet(shards[0])
    there = set(keys) - {key.removesuffix("w") for key in wide["input_hash"]}
    assert set(store.find(keys)["key"]) == store.known(keys) == there
    commit(store, keys, "two")
    assert_found(store, keys)


def test_one_file_of_an_older_lake_survives_a_crash_at_the_first_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["a", "b", "c"]
    vectors = np.stack([vector(key) for key in keys])
    store = VectorStore(tmp_path, "small", "title")
    file = store.table.file(tmp_path, "small")
    file.parent.mkdir(parents=True)
    embeddings_frame(["0", "1", "2"], vectors, keys, "1", "model", "old").write_parquet(file)

    def crash(*_: object) -> None:
        file.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_table", crash)
    with pytest.raises(KeyboardInterrupt):
        commit(store, keys, "new")
    assert_found(VectorStore(tmp_path, "small", "title"), keys)


@pytest.mark.parametrize("harm", ["edit", "cut"])
def test_a_vector_that_is_not_what_its_hash_says_is_none(tmp_path: Path, harm: str) -> None:
    store = VectorStore(tmp_path, "small", "title")
    commit(store, ["a", "b"], "one")
    (shard,) = shard_files(store.table.file(tmp_path, "small"))
    if harm == "edit":
        rows = pl.read_parquet(shard)
        zeros = pl.lit([0.0] * WIDTH, dtype=pl.Array(pl.Float32, WIDTH))
        rows.with_columns(vector=pl.when(pl.col("input_hash") == "a").then(zeros).otherwise("vector")).write_parquet(
            shard
        )
        assert store.find(["a", "b"])["key"].to_list() == ["b"]
    else:
        shard.write_bytes(shard.read_bytes()[:-9])
        assert store.find(["a", "b"]).is_empty() and store.known(["a", "b"]) == set()
    commit(store, ["a", "b"], "two")
    assert_found(store, ["a", "b"])
