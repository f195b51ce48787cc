"""A file is read once per process, unless it was replaced or written to; a document says itself whether it is whole."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import DamagedError, DataError
from rallrec_pipeline.lake import checksums
from rallrec_pipeline.lake.checksums import SETTLED_NS, digest, is_damaged, state_of
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.lake.sealed import SEAL, read_sealed, write_sealed
from rallrec_pipeline_tests.lake.flips import flip, rewrite

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


def settled(path: Path) -> None:
    """Wait until the file is old enough to be remembered."""
    while time.time_ns() - path.stat().st_ctime_ns <= SETTLED_NS:
        time.sleep(0.01)


def test_a_file_is_read_once_and_again_after_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[Path]()
    monkeypatch.setattr(checksums, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    file = tmp_path / "file"
    file.write_bytes(b"as it was written")
    assert digest(file) == digest(file) and len(read) == 2, "so young a file may change within a tick of the clock"
    settled(file)
    first = digest(file)
    assert digest(file) == first and len(read) == 3
    (tmp_path / "renamed").hardlink_to(file)
    assert digest(tmp_path / "renamed") == first
    state = state_of(file)
    rewrite(file, b"as it was writteN")
    settled(file)
    assert state_of(file)[:2] == state[:2] and digest(file) != first and is_damaged(file, state)
    os.replace(file, tmp_path / "old")
    file.write_bytes(b"as it was written")
    os.utime(file, ns=(state[1], state[1]))
    assert digest(file) == first and not is_damaged(file, state), "a file that took its place is another one"
    file.unlink()
    assert not is_damaged(file, state)


def test_a_clock_that_goes_backwards_makes_no_stale_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    settled(file)
    monkeypatch.setattr(checksums.time, "time_ns", lambda: 0)
    found = digest(file)
    rewrite(file, b"two")
    assert digest(file) != found


@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN, max_size=4))
def test_a_document_comes_back_without_its_checksum(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    value.pop(SEAL, None)
    path = tmp_path_factory.mktemp("sealed") / "document.json"
    try:
        write_sealed(path, value)
    except UnicodeEncodeError:  # a surrogate, which no file takes
        return
    assert read_sealed(path, sealed_since=1) == value


def test_every_flipped_bit_of_a_document_is_damage(tmp_path: Path) -> None:
    path, value = tmp_path / "document.json", {"format": 2, "name": "é", "at": 0.5, "list": [1, {"a": None}]}
    write_sealed(path, value)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(DamagedError, match="is damaged") as told:
                read_sealed(path, sealed_since=2)
            assert "\n" not in str(told.value)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedError):
        read_sealed(path)


def test_a_document_of_an_older_version_has_no_checksum_and_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    path.write_text(json.dumps({"a": 1}))
    assert read_sealed(path, sealed_since=2) == {"a": 1}
    path.write_text(json.dumps({"a": 1, "format": 2}))
    assert read_sealed(path) == {"a": 1, "format": 2}
    with pytest.raises(DamagedError):
        read_sealed(path, sealed_since=2)
    with pytest.raises(DataError, match="there is no file"):
        read_sealed(tmp_path / "none")
    path.write_text("[1]")
    with pytest.raises(DamagedError, match="no document"):
        read_sealed(path)


def test_a_flip_keeps_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    before = file.stat()
    flip(file, random.Random(0))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert sum(byte.bit_count() for byte in file.read_bytes()) == 1
