"""Hashes of what things are made from and of what they hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.lake.provenance import content_version, now, stable_hash
from rallrec_pipeline.settings import TuningSettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_hash_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert stable_hash(value) == stable_hash(dict(reversed(value.items())))
    assert len(stable_hash(value)) == 32 and int(stable_hash(value), 16) >= 0
    assert stable_hash(value) != stable_hash(value, value)


@given(st.text(), st.text(), st.text(), st.text())
def test_parts_of_a_hash_do_not_run_together(a: str, b: str, c: str, d: str) -> None:
    assert (stable_hash(a, b) == stable_hash(c, d)) == ((a, b) == (c, d))


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from rallrec_pipeline.lake.provenance import stable_hash; print(stable_hash({'b': 1.5, 'a': ['é', None]}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == stable_hash({"a": ["é", None], "b": 1.5}) == "a5c7fff55ed82fb72dac1348a4888534"


def test_settings_hash_by_their_values() -> None:
    assert stable_hash(TuningSettings()) == stable_hash(TuningSettings(rank=8)) != stable_hash(TuningSettings(rank=4))
    assert stable_hash(Path("a/b")) == stable_hash("a/b")
    with pytest.raises(TypeError, match="cannot hash object"):
        stable_hash(object())


def test_the_data_version_is_that_of_names_and_bytes(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    version = content_version([a, b])
    assert version == content_version([b, a])
    a.touch()
    assert version == content_version([a, b])
    b.write_bytes(b"three")
    assert version != content_version([a, b])
    folder = tmp_path / "folder"
    shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("folder"))
    assert content_version([folder]) == content_version([a, b])
    assert content_version([a]) != content_version([b]) != content_version([])


def test_times_are_utc_to_the_second() -> None:
    assert now().endswith("+00:00") and len(now()) == 25


def test_a_temporary_file_is_no_part_of_what_is_hashed(tmp_path: Path) -> None:
    """What a killed run left behind may go without making anything stale."""
    (tmp_path / "t.parquet").write_bytes(b"rows")
    (tmp_path / ".t.parquet.1234.tmp").write_bytes(b"half")
    with_it = content_version([tmp_path])
    (tmp_path / ".t.parquet.1234.tmp").unlink()
    assert content_version([tmp_path]) == with_it
