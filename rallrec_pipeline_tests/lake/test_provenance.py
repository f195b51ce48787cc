"""Fingerprints and sidecars."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.lake.provenance import (
    Sidecar,
    content_version,
    now,
    read_sidecar,
    sidecar_path,
    stable_hash,
    write_sidecar,
)
from rallrec_pipeline.settings import TuningSettings

SIDECAR = Sidecar(
    artefact="samples",
    dataset="small",
    fingerprint="f" * 32,
    data_version="d" * 32,
    inputs={"core_interactions": "c" * 32},
    settings={"min_history": 5},
    code_version="1",
    run_id="r",
    created_at="2025-01-01T00:00:00+00:00",
    seconds=1.5,
    files=["tables/samples/small.parquet"],
    metadata={"rows": 3},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "tables/samples").mkdir(parents=True)
    (tmp_path / SIDECAR.files[0]).write_bytes(b"rows")
    write_sidecar(tmp_path, SIDECAR)
    return tmp_path


def test_a_sidecar_comes_back(lake: Path) -> None:
    assert read_sidecar(lake, "samples", "small") == SIDECAR
    assert read_sidecar(lake, "samples", "other") is None
    assert read_sidecar(lake, "items", "small") is None


def test_a_sidecar_whose_file_has_gone_is_none(lake: Path) -> None:
    (lake / SIDECAR.files[0]).unlink()
    assert read_sidecar(lake, "samples", "small") is None


def test_of_several_files_and_folders_all_must_be_there(lake: Path) -> None:
    (lake / "models/m").mkdir(parents=True)
    write_sidecar(lake, replace(SIDECAR, files=[*SIDECAR.files, "models/m"]))
    assert read_sidecar(lake, "samples", "small") is not None
    shutil.rmtree(lake / "models/m")
    assert read_sidecar(lake, "samples", "small") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"artefact": "samples"}', '{"unknown": 1}', "null", "\x00"])
def test_an_unreadable_sidecar_is_none(lake: Path, text: str) -> None:
    sidecar_path(lake, "samples", "small").write_text(text, encoding="utf-8")
    assert read_sidecar(lake, "samples", "small") is None


@pytest.mark.parametrize("files", [None, 3, [3], [None]])
def test_a_sidecar_with_impossible_files_is_none(lake: Path, files: object) -> None:
    path = sidecar_path(lake, "samples", "small")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"files": files}), encoding="utf-8")
    assert read_sidecar(lake, "samples", "small") is None


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
