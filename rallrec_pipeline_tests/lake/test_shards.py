"""A table in shards: exactly the rows asked for, few bytes rewritten, nothing lost when it breaks off."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.lake import shards
from rallrec_pipeline.lake.shards import shard_files, shard_of, write_shards


def table(ids: list[str], version: str = "1") -> pl.DataFrame:
    vectors = np.array([[len(i), hash_of(i + version)] for i in ids], np.float32).reshape(len(ids), 2)
    return pl.DataFrame(
        {
            "item_id": pl.Series(ids, dtype=pl.String),
            "vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, 2)),
            "data_version": pl.Series([i + version for i in ids], dtype=pl.String),
        }
    )


def hash_of(text: str) -> int:
    return shard_of(text, 1 << 20)


def stored(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(shard_files(folder)).sort("item_id")


@settings(max_examples=25)
@given(st.lists(st.sets(st.text(max_size=6), max_size=60), min_size=1, max_size=4))
def test_the_folder_holds_exactly_the_last_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[set[str]]
) -> None:
    folder = tmp_path_factory.mktemp("shards") / "t.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS_PER_SHARD", 4)  # many shards, whose number changes from step to step
        for number, ids in enumerate(steps):
            frame = table(sorted(ids), str(number % 2))
            write_shards(frame, folder, "item_id", "vector")
            assert stored(folder).equals(frame.sort("item_id"))


def test_one_changed_row_rewrites_one_shard(tmp_path: Path) -> None:
    ids = [str(i) for i in range(5000)]
    first = write_shards(table(ids), tmp_path / "t", "item_id", "vector")
    assert first.total == first.rewritten == 16
    changed = pl.concat([table(ids[:1], "2"), table(ids[1:])])
    second = write_shards(changed, tmp_path / "t", "item_id", "vector")
    assert second.rewritten == 1 and second.bytes < first.bytes / 10
    assert stored(tmp_path / "t").equals(changed.sort("item_id"))
    assert write_shards(changed, tmp_path / "t", "item_id", "vector").rewritten == 0


def test_equal_rows_make_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    ids = [str(i) for i in range(2000)]
    write_shards(table(ids), tmp_path / "a", "item_id", "vector")
    write_shards(table(ids[:7]), tmp_path / "b", "item_id", "vector")
    write_shards(table(ids[::-1]), tmp_path / "b", "item_id", "vector")
    assert [f.read_bytes() for f in shard_files(tmp_path / "a")] == [
        f.read_bytes() for f in shard_files(tmp_path / "b")
    ]


def test_a_damaged_shard_is_written_again(tmp_path: Path) -> None:
    frame = table([str(i) for i in range(2000)])
    write_shards(frame, tmp_path / "t", "item_id", "vector")
    shard_files(tmp_path / "t")[1].write_bytes(b"PAR1 and then nothing")
    assert write_shards(frame, tmp_path / "t", "item_id", "vector").rewritten == 1
    assert stored(tmp_path / "t").equals(frame.sort("item_id"))


def test_one_file_of_an_older_lake_is_replaced(tmp_path: Path) -> None:
    frame = table(["1", "2"])
    frame.write_parquet(tmp_path / "t.parquet")
    assert shard_files(tmp_path / "t.parquet") == [tmp_path / "t.parquet"]
    write_shards(frame, tmp_path / "t.parquet", "item_id", "vector")
    assert (tmp_path / "t.parquet").is_dir() and stored(tmp_path / "t.parquet").equals(frame)


def test_shards_that_an_earlier_result_has_alike_are_shared_with_it(tmp_path: Path) -> None:
    ids = [str(i) for i in range(5000)]
    write_shards(table(ids), tmp_path / "one", "item_id", "vector")
    changed = pl.concat([table(ids[:1], "2"), table(ids[1:])])
    done = write_shards(changed, tmp_path / "two", "item_id", "vector", tmp_path / "one")
    assert (done.total, done.rewritten) == (16, 1) and done.bytes > 0
    shared = [a.samefile(b) for a, b in zip(shard_files(tmp_path / "one"), shard_files(tmp_path / "two"), strict=True)]
    assert sum(shared) == 15
    assert stored(tmp_path / "one").equals(table(ids).sort("item_id"))
    assert stored(tmp_path / "two").equals(changed.sort("item_id"))
    assert write_shards(changed, tmp_path / "two", "item_id", "vector", tmp_path / "one").rewritten == 0
    assert write_shards(table(ids), tmp_path / "three", "item_id", "vector", tmp_path / "none").rewritten == 16


def test_without_links_shards_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    frame = table(["1", "2"])
    write_shards(frame, tmp_path / "one", "item_id", "vector")
    monkeypatch.setattr(os, "link", refuse)
    assert write_shards(frame, tmp_path / "two", "item_id", "vector", tmp_path / "one").rewritten == 0
    (one,), (two,) = shard_files(tmp_path / "one"), shard_files(tmp_path / "two")
    assert not one.samefile(two) and one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("harm", ["edit", "cut"])
def test_a_shard_whose_vectors_were_harmed_is_neither_kept_nor_shared(tmp_path: Path, harm: str) -> None:
    frame = table(["1", "2"])
    write_shards(frame, tmp_path / "one", "item_id", "vector")
    (shard,) = shard_files(tmp_path / "one")
    if harm == "edit":
        zeros = pl.lit([0.0, 0.0], dtype=pl.Array(pl.Float32, 2)).alias("vector")
        pl.read_parquet(shard).with_columns(zeros).write_parquet(shard)
    else:
        shard.write_bytes(shard.read_bytes()[:-9])
    assert write_shards(frame, tmp_path / "two", "item_id", "vector", tmp_path / "one").rewritten == 1
    assert write_shards(frame, tmp_path / "one", "item_id", "vector").rewritten == 1
    assert stored(tmp_path / "one").equals(frame) and stored(tmp_path / "two").equals(frame)
