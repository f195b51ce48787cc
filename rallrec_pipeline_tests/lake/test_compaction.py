"""A cache made smaller: what stays is found as before, also after a crash in the middle."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import compaction
from rallrec_pipeline.lake.compaction import Compacted, Keep, compact_cache
from rallrec_pipeline.lake.llm_cache import DESCRIPTIONS, LLMCache

KEYS = "abcdefgh"


def add(cache: LLMCache, texts: dict[str, str], created_at: str = "2026-01-01") -> None:
    cache.add(
        pl.DataFrame({"key": list(texts), "text": list(texts.values())}).with_columns(created_at=pl.lit(created_at))
    )


def texts(cache: LLMCache) -> dict[str, str]:
    return dict(cache.find(list(KEYS)).select("key", "text").iter_rows())


def keeping(keys: str) -> Keep:
    return lambda rows: rows["key"].is_in(list(keys))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), st.text("xyz", max_size=3), max_size=5), max_size=6),
    st.sets(st.sampled_from(KEYS)),
)
def test_what_stays_is_found_as_before_in_one_part(batches: list[dict[str, str]], kept: set[str]) -> None:
    with TemporaryDirectory() as lake:
        cache = LLMCache(Path(lake), "descriptions")
        for batch in batches:
            add(cache, batch)
        before, sizes = texts(cache), sum(part.stat().st_size for part in cache.parts())
        parts, rows = len(cache.parts()), sum(len(batch) for batch in batches)
        promised = compact_cache(cache, keeping("".join(kept)), dry_run=True)
        assert len(cache.parts()) == parts and texts(cache) == before
        done = compact_cache(cache, keeping("".join(kept)))
        assert done == promised
        expected = {key: text for key, text in before.items() if key in kept}
        assert texts(cache) == expected
        assert done.rows == rows - len(expected) and done.files == parts - len(cache.parts())
        assert done.bytes == sizes - sum(part.stat().st_size for part in cache.parts())
        assert len(cache.parts()) == bool(expected)
        assert compact_cache(cache, keeping("".join(kept))) == Compacted()
        add(cache, {"a": "newest"})
        assert texts(cache)["a"] == "newest"


def test_a_crash_before_the_old_parts_are_deleted_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    for key in "abcd":
        add(cache, {key: key.upper(), "h": key})
    before = texts(cache)
    unlink = Path.unlink
    for survived in (0, 2):
        calls: list[Path] = []

        def crash(path: Path, missing_ok: bool = False, left: int = survived, seen: list[Path] = calls) -> None:
            if path.name.startswith("part-"):
                seen.append(path)
                if len(seen) > left:
                    raise KeyboardInterrupt
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                compact_cache(cache, keeping("abch"))
        assert texts(cache).items() >= {k: v for k, v in before.items() if k != "d"}.items()
    compact_cache(cache, keeping("abch"))
    assert texts(cache) == {"a": "A", "b": "B", "c": "C", "h": "d"} and len(cache.parts()) == 1


def test_a_full_disk_leaves_the_old_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    add(cache, {"a": "A"})
    add(cache, {"b": "B"})
    before = cache.parts()

    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="no space left"):
        compact_cache(cache, keeping("ab"))
    assert cache.parts() == before and not list(tmp_path.rglob("*.tmp"))


def test_large_parts_are_left_alone_unless_a_row_of_theirs_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SMALL", 0)
    monkeypatch.setattr(compaction, "WHOLE", 1)
    cache = LLMCache(tmp_path, "descriptions")
    for key in "abc":
        add(cache, {key: key.upper(), key.upper(): "x"})
    first, second, third = cache.parts()
    assert compact_cache(cache, keeping("abcABC")) == Compacted()
    assert compact_cache(cache, keeping("aAcC")).rows == 2
    assert cache.parts() == [first, third] and not second.exists()


def test_parts_of_an_earlier_version_and_rows_without_a_time_come_along(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    add(cache, {"a": "A"})
    old = {name: kind for name, kind in DESCRIPTIONS.items() if name != "prompt"}
    pl.DataFrame([("b", "B", "written", 1, "run", None)], old, orient="row").write_parquet(
        cache.folder / "part-000009.parquet"
    )

    def young(rows: pl.DataFrame) -> pl.Series:
        assert rows.columns == ["key", "created_at"]
        return rows["created_at"] >= "2026"

    compact_cache(cache, young)
    assert texts(cache) == {"a": "A", "b": "B"} and len(cache.parts()) == 1


def test_a_damaged_part_is_named_and_nothing_is_touched(tmp_path: Path) -> None:
    cache = LLMCache(tmp_path, "descriptions")
    add(cache, {"a": "A"})
    (cache.folder / "part-000004.parquet").write_bytes(b"PAR1")
    before = cache.parts()
    with pytest.raises(DataError, match=r"part-000004.parquet is damaged") as caught:
        compact_cache(cache, keeping("a"))
    assert cache.parts() == before and len(str(caught.value).splitlines()) == 1


def test_an_empty_cache_stays_away(tmp_path: Path) -> None:
    assert compact_cache(LLMCache(tmp_path, "scores"), keeping("")) == Compacted()
    assert not (tmp_path / "cache").exists()
