"""Encoded vectors: found by key in shards and cache, and safe at every step of a commit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.text import embeddings_frame
from rallrec_pipeline.lake import vectors as module
from rallrec_pipeline.lake.vectors import VectorStore, vectors_from_bytes

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
