"""Lakes of earlier versions: every finished row of theirs is found in the memo, once, and their caches go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.text import embeddings_frame
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import memo_file as module
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, KINDS, SCORES, VECTORS, Columns
from rallrec_pipeline.lake.shards import write_shards
from rallrec_pipeline.lake.vectors import vector_version, vectors_from_bytes, vectors_to_bytes

WIDTH = 5


def described(texts: dict[str, str]) -> pl.DataFrame:
    finished = [(key, f"Describe {key}.", text, "ok", 1, "run", "2026-01-01") for key, text in texts.items()]
    return pl.DataFrame(finished, schema=DESCRIPTIONS.schema, orient="row")


def part(lake: Path, kind: str, name: str, rows: pl.DataFrame) -> Path:
    path = lake / "cache" / kind / f"part-{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(path)
    return path


def vectors(keys: list[str], width: int = WIDTH) -> NDArray[np.float32]:
    return np.stack([np.random.default_rng(list(k.encode())).normal(size=width).astype(np.float32) for k in keys])


def cached(keys: list[str]) -> pl.DataFrame:
    rows = vectors_to_bytes(vectors(keys))
    versions = [vector_version(row) for row in rows]
    return pl.DataFrame(
        {"key": keys, "vector": rows, "data_version": versions, "run_id": "old", "created_at": "2025-01-01"}
    )


def embedded(keys: list[str], width: int = WIDTH) -> pl.DataFrame:
    ids = [f"i{key}" for key in keys]
    return embeddings_frame(ids, vectors(keys, width), keys, "1", "model", "current")


def texts(lake: Path, keys: str = "abcdefgh") -> dict[str, str]:
    return dict(Memo(lake, DESCRIPTIONS).find(keys).select("key", "text").iter_rows())


@settings(max_examples=20)
@given(st.lists(st.dictionaries(st.sampled_from("abcdefg"), st.text("xyz", max_size=3), min_size=1), max_size=5))
def test_the_newest_text_of_each_key_is_adopted(
    tmp_path_factory: pytest.TempPathFactory, batches: list[dict[str, str]]
) -> None:
    lake, newest = tmp_path_factory.mktemp("lake"), dict[str, str]()
    for number, batch in enumerate(batches, 1):
        suffix = "" if number % 2 else "-0a1b2c3d"
        part(lake, "descriptions", f"{number:06d}{suffix}", described(batch))
        newest |= batch
    assert Memo(lake, DESCRIPTIONS).known("abcdefgh") == set(newest)
    assert texts(lake) == newest and texts(lake) == newest
    assert not (lake / "cache" / "descriptions").exists()


def test_numbers_beyond_six_digits_and_leftovers(tmp_path: Path) -> None:
    part(tmp_path, "descriptions", "000009", described({"a": "old"}))
    part(tmp_path, "descriptions", "1000000", described({"a": "new"}))
    (tmp_path / "cache" / "descriptions" / ".part-000010.parquet.1234.tmp").write_bytes(b"half")
    (tmp_path / "cache" / "descriptions" / "part-x.parquet").write_bytes(b"no part")
    assert texts(tmp_path) == {"a": "new"}


def test_parts_from_before_a_column_was_added_are_adopted(tmp_path: Path) -> None:
    part(tmp_path, "descriptions", "000001", described({"a": "A", "b": "B"}).drop("prompt", "attempts"))
    part(tmp_path, "scores", "000001", pl.DataFrame({"key": ["s"], "probabilities": [[0.1, 0.9]]}))
    found = Memo(tmp_path, DESCRIPTIONS).find("ab").sort("key")
    assert found.select("key", "prompt", "text", "attempts").rows() == [("a", "", "A", None), ("b", "", "B", None)]
    assert Memo(tmp_path, SCORES).find("s").rows() == [("s", [0.1, 0.9], None, "", "")]


def test_vectors_come_from_caches_and_from_current_tables(tmp_path: Path) -> None:
    part(tmp_path, "vectors/small/title", "000001", cached(["a", "b"]))
    part(tmp_path, "vectors/other/description", "000001", cached(["c"]))
    write_shards(embedded(["a", "d"]), tmp_path / "embeddings/title/small.parquet", "item_id", "vector")
    write_shards(embedded(["e"], 9), tmp_path / "embeddings/description/small.parquet", "item_id", "vector")
    whole = tmp_path / "embeddings/title/other.parquet"  # from before there were shards
    embedded(["f"]).write_parquet(whole)
    write_shards(embedded(["g"]), tmp_path / "embeddings/item/small.parquet", "item_id", "vector")
    found = Memo(tmp_path, VECTORS).find("abcdefg")
    origin = dict(found.select("key", "run_id").iter_rows())
    assert origin == {"a": "current", "b": "old", "c": "old", "d": "current", "e": "current", "f": "current"}
    for key, row in zip(found["key"], found["vector"], strict=True):
        np.testing.assert_array_equal(np.frombuffer(row, "<f4"), vectors([key], 9 if key == "e" else WIDTH)[0])
    assert whole.is_file() and not (tmp_path / "cache" / "vectors").exists()


@pytest.mark.parametrize("harm", ["edit", "cut"])
def test_a_vector_that_is_not_what_its_hash_says_is_not_finished(tmp_path: Path, harm: str) -> None:
    write_shards(embedded(["a", "b"]), tmp_path / "embeddings/title/small.parquet", "item_id", "vector")
    (shard,) = (tmp_path / "embeddings/title/small.parquet").iterdir()
    if harm == "edit":
        zeros = pl.lit([0.0] * WIDTH, dtype=pl.Array(pl.Float32, WIDTH))
        edited = pl.when(pl.col("input_hash") == "a").then(zeros).otherwise("vector").alias("vector")
        pl.read_parquet(shard).with_columns(edited).write_parquet(shard)
    else:
        shard.write_bytes(shard.read_bytes()[:-9])
    assert Memo(tmp_path, VECTORS).known("ab") == ({"b"} if harm == "edit" else set())


def test_a_damaged_part_is_named_and_the_rest_waits_for_it(tmp_path: Path) -> None:
    part(tmp_path, "descriptions", "000001", described({"a": "A"}))
    damaged = part(tmp_path, "descriptions", "000002", described({"b": "B"}))
    damaged.write_bytes(b"PAR1")
    for _ in range(2):
        with pytest.raises(DataError, match=r"part-000002.parquet is damaged .*: delete it and run again") as caught:
            Memo(tmp_path, DESCRIPTIONS).find("a")
        assert "\n" not in str(caught.value)
    damaged.unlink()
    assert texts(tmp_path) == {"a": "A"}


def test_an_adoption_that_was_broken_off_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 6):
        part(tmp_path, "descriptions", f"{number:06d}", described({"all": f"t{number}", f"k{number}": "x"}))
    read = module.read_old

    seen: list[Path] = []

    def stopping(file: Path, schema: Columns) -> pl.DataFrame:
        seen.append(file)
        if len(seen) % 3 == 0:
            raise KeyboardInterrupt
        return read(file, schema)

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(module, "read_old", stopping)
            with pytest.raises(KeyboardInterrupt):
                Memo(tmp_path, DESCRIPTIONS).known(["k1"])
    found = dict(Memo(tmp_path, DESCRIPTIONS).find(["all", *(f"k{n}" for n in range(6))]).select("key", "text").rows())
    assert found == {"all": "t5"} | {f"k{n}": "x" for n in range(1, 6)}


def test_what_was_made_since_is_not_replaced_by_old_rows(tmp_path: Path) -> None:
    part(tmp_path, "descriptions", "000001", described({"a": "old", "b": "B"}))
    Memo(tmp_path, DESCRIPTIONS).add(described({"a": "new"}))
    assert texts(tmp_path) == {"a": "new", "b": "B"}


def test_a_lake_without_old_caches_is_left_alone(tmp_path: Path) -> None:
    write_shards(embedded(["g"]), tmp_path / "embeddings/item/small.parquet", "item_id", "vector")
    assert not any(Memo(tmp_path, kind).known("g") for kind in KINDS)
    assert not (tmp_path / "cache").exists() and not (tmp_path / "locks").exists()


def test_after_the_memo_of_vectors_was_deleted_current_ones_are_found_again(tmp_path: Path) -> None:
    memo = Memo(tmp_path, VECTORS)
    memo.add(cached(["a", "b"]))
    write_shards(embedded(["a"]), tmp_path / "embeddings/title/small.parquet", "item_id", "vector")
    memo.path.unlink()
    found = memo.find("ab")
    assert found["key"].to_list() == ["a"]
    np.testing.assert_array_equal(vectors_from_bytes(found["vector"]), vectors(["a"]))


ADOPTER = """
import sys
import subprocess
import sys
from pathlib import Path
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS
print(len(Memo(Path(sys.argv[1]), DESCRIPTIONS).known(f"k{n}" for n in range(100))))
"""


def test_processes_that_adopt_at_once_all_find_everything(tmp_path: Path) -> None:
    for number in range(100):
        part(tmp_path, "descriptions", f"{number:06d}", described({f"k{number}": "x"}))
    command = [sys.executable, "-c", ADOPTER, str(tmp_path)]
    adopters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in adopters] == ["100"] * 3
