"""The cache of LLM results: nothing finished is ever lost or paid for twice."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.llm_cache import DESCRIPTIONS, SCORES, LLMCache

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def rows(texts: dict[str, str]) -> pl.DataFrame:
    finished = [(key, f"Describe {key}.", text, "ok", 1, "run", "2026-01-01") for key, text in texts.items()]
    return pl.DataFrame(finished, schema=dict(DESCRIPTIONS), orient="row")


def scores(probabilities: dict[str, list[float]]) -> pl.DataFrame:
    finished = [(key, values, 0.5, "run", "2026-01-01") for key, values in probabilities.items()]
    return pl.DataFrame(finished, schema=dict(SCORES), orient="row")


def texts(cache: LLMCache, keys: list[str]) -> dict[str, str]:
    found = cache.find(keys)
    assert dict(found.schema) == DESCRIPTIONS and found["key"].is_unique().all()
    return dict(found.select("key", "text").iter_rows())


def numbers(cache: LLMCache) -> list[int]:
    return sorted(int(part.name.split("-")[1].removesuffix(".parquet")) for part in cache.folder.iterdir())


def test_an_empty_cache_finds_nothing(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    assert texts(cache, ["a"]) == {}
    cache.add(rows({}))
    assert not cache.folder.exists()
    cache.add(rows({"a": "A"}))
    assert texts(cache, []) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcdefg"), TEXT, max_size=5), max_size=5))
def test_the_newest_text_of_each_key_is_found(batches: list[dict[str, str]]) -> None:
    with TemporaryDirectory() as lake:
        cache = LLMCache(Path(lake), "descriptions")
        newest: dict[str, str] = {}
        for batch in batches:
            cache.add(rows(batch))
            newest |= batch
        assert texts(LLMCache(Path(lake), "descriptions"), list("abcdefgh")) == newest
        assert texts(cache, ["a", "a", "h"]) == {key: text for key, text in newest.items() if key == "a"}
        assert texts(LLMCache(Path(lake), "profiles"), ["a"]) == {}


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_after_a_lost_part_a_new_one_never_replaces_another(tmp_path: Path, lost: int) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    for key in "abc":
        cache.add(rows({key: key.upper()}))
    assert numbers(cache) == [1, 2, 3]
    sorted(cache.folder.iterdir())[lost].unlink()
    cache.add(rows({"d": "D", "a": "newer"}))
    assert numbers(cache)[-1] == (3 if lost == 2 else 4)
    kept = {key: key.upper() for key in "abc" if key != "abc"[lost]}
    assert texts(cache, list("abcd")) == kept | {"d": "D", "a": "newer"}


def test_two_runs_that_number_alike_keep_both_parts(tmp_path: Path) -> None:
    one, two = LLMCache(tmp_path / "one", "descriptions"), LLMCache(tmp_path / "two", "descriptions")
    one.add(rows({"a": "A"}))
    two.add(rows({"b": "B"}))
    (part,) = two.folder.iterdir()  # as if both had looked for the highest number at the same time
    part.rename(one.folder / part.name)
    assert numbers(one) == [1, 1]
    assert texts(one, ["a", "b"]) == {"a": "A", "b": "B"}


def test_parts_of_plain_numbers_and_beyond_six_digits_count(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    cache.folder.mkdir(parents=True)
    rows({"a": "old"}).write_parquet(cache.folder / "part-000009.parquet")
    rows({"a": "new"}).write_parquet(cache.folder / "part-1000000.parquet")
    (cache.folder / ".part-000010.parquet.1234.tmp").write_bytes(b"half")
    (cache.folder / "part-x.parquet").write_bytes(b"no part")
    assert texts(cache, ["a"]) == {"a": "new"}
    cache.add(rows({"a": "newest"}))
    assert texts(cache, ["a"]) == {"a": "newest"}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 10])
def test_a_damaged_part_is_named(tmp_path: Path, content: bytes) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    cache.add(rows({"a": "A"}))
    cache.add(rows({"b": "B"}))
    first, second = sorted(cache.folder.iterdir())
    second.write_bytes(content)
    with pytest.raises(DataError, match="is damaged") as caught:
        cache.find(["a"])
    assert f"delete {second} and" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    second.unlink()
    assert texts(cache, ["a", "b"]) == {"a": "A"} and first.exists()


def test_a_part_of_another_schema_is_a_data_error(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    cache.add(rows({"a": "A"}))
    pl.DataFrame({"other": [1]}).write_parquet(cache.folder / "part-000007.parquet")
    with pytest.raises(DataError, match=r"delete \S+part-000007.parquet and run again"):
        cache.find(["a"])


def test_kinds_have_their_own_columns_and_folders(tmp_path: Path) -> None:
    described, scored = LLMCache(tmp_path, "descriptions", DESCRIPTIONS), LLMCache(tmp_path, "scores", SCORES)
    assert dict(scored.find(["a"]).schema) == SCORES and scored.find(["a"]).is_empty()
    described.add(rows({"a": "A"}))
    scored.add(scores({"a": [0.25, 0.75], "b": [0.2, 0.3, 0.5]}))
    assert texts(described, ["a", "b"]) == {"a": "A"}
    found = scored.find(["b"])
    assert dict(found.schema) == SCORES and found.rows() == [("b", [0.2, 0.3, 0.5], 0.5, "run", "2026-01-01")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_probabilities_keep_every_bit(values: list[float]) -> None:
    with TemporaryDirectory() as lake:
        cache = LLMCache(Path(lake), "scores", SCORES)
        cache.add(scores({"a": values}))
        (kept,) = cache.find(["a"])["probabilities"].to_list()
        assert kept == values and [math.copysign(1, v) for v in kept] == [math.copysign(1, v) for v in values]


def test_parts_from_before_a_column_was_added_are_read(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions", DESCRIPTIONS)
    cache.folder.mkdir(parents=True)
    old = rows({"a": "A", "b": "B"}).drop("prompt")
    old.write_parquet(cache.folder / "part-000001.parquet")
    old.drop("attempts").select(*reversed(old.drop("attempts").columns)).write_parquet(
        cache.folder / "part-000002.parquet"
    )
    cache.add(rows({"b": "newer"}))
    found = cache.find(["a", "b"])
    assert dict(found.schema) == DESCRIPTIONS
    assert set(found.select("key", "prompt", "text", "attempts").rows()) == {
        ("a", "", "A", None),
        ("b", "Describe b.", "newer", 1),
    }


def test_rows_that_lack_a_column_are_stored_with_it_empty(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    cache.add(rows({"a": "A"}).drop("prompt"))
    assert cache.find(["a"]).select("key", "prompt", "text").rows() == [("a", "", "A")]


def test_many_parts_are_one_cache(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    cache.folder.mkdir(parents=True)
    for number in range(1, 301):
        rows({f"k{number}": f"t{number}", "last": f"t{number}"}).write_parquet(
            cache.folder / f"part-{number:06d}.parquet"
        )
    assert texts(cache, ["k7", "last", "k300", "none"]) == {"k7": "t7", "last": "t300", "k300": "t300"}


def test_only_parts_whose_rows_are_all_kept_elsewhere_are_dropped(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    for batch in ({"a": "A", "b": "B"}, {"b": "B", "c": "C"}, {"a": "A"}):
        cache.add(rows(batch))
    (cache.folder / "part-000009.parquet").write_bytes(b"nonsense")
    cache.drop_parts_within({"a", "b"})
    assert numbers(cache) == [2, 9]
    (cache.folder / "part-000009.parquet").unlink()
    assert texts(cache, ["a", "b", "c"]) == {"b": "B", "c": "C"}
    cache.drop_parts_within(set())
    assert numbers(cache) == [2]
