"""Atomic writes: the old file or the new one, whatever happens between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, file_sha256, is_full_disk, read_json, write_json

FULL = Path("/dev/full")


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt(), SystemExit(1), DataError("stop")])
@pytest.mark.parametrize("there", [False, True])
def test_any_exception_leaves_the_old_one_and_no_temporary(
    tmp_path: Path, error: BaseException, folder: bool, there: bool
) -> None:
    path = tmp_path / "artefact"

    def write(place: Path, text: str) -> None:
        if folder:
            place.mkdir()
        (place / "part" if folder else place).write_text(text, encoding="utf-8")

    if there:
        write(path, "old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:  # noqa: PT012
        write(temporary, "half")
        raise error
    assert list(tmp_path.iterdir()) == ([path] if there else [])
    if there:
        assert (path / "part" if folder else path).read_text(encoding="utf-8") == "old"


def test_a_file_and_a_folder_are_replaced(tmp_path: Path) -> None:
    path, folder = tmp_path / "deep" / "down" / "file", tmp_path / "folder"
    for text in ("one", "two"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent and temporary.name.startswith(".")
            temporary.write_text(text, encoding="utf-8")
        with atomic_path(folder) as temporary:
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / text).write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "two"
    assert [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*"))] == ["inner", "inner/two"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "folder"]
    assert list(path.parent.iterdir()) == [path]


WRITER = """
import sys
from pathlib import Path
from rallrec_pipeline.lake.files import atomic_path
path, kind = Path(sys.argv[1]), sys.argv[2]
for number in range(1, 100_000):
    with atomic_path(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            for part in "ab":
                (temporary / part).write_text(f"{number} " * 2000)
        else:
            temporary.write_text(f"{number} " * 20_000)
    print(number, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.process
@pytest.mark.parametrize(
    ("kind", "blow", "wait"),
    [(kind, blow, wait) for kind, blow in (("file", "SIGKILL"), ("folder", "SIGINT")) for wait in (0.0, 0.003, 0.011)],
)
def test_a_process_that_is_struck_down_leaves_a_whole_artefact(
    tmp_path: Path, kind: str, blow: str, wait: float
) -> None:
    path = tmp_path / "artefact"
    command = [sys.executable, "-c", WRITER, str(path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        time.sleep(wait)
        process.send_signal(getattr(signal, blow))
        process.communicate(timeout=60)
    files = [path] if kind == "file" else [path / "a", path / "b"]
    texts = {file.read_text(encoding="utf-8") for file in files}
    assert len(texts) == 1
    words = texts.pop().split()
    assert len(words) == (20_000 if kind == "file" else 2000) and len(set(words)) == 1 and int(words[0]) >= 3


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_for_python_and_for_parquet(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(b"old")
    for kind in ("python", "parquet"):
        with pytest.raises(DataError, match="no space left") as caught, atomic_path(path) as temporary:  # noqa: PT012
            temporary.symlink_to(FULL)  # every write to it fails as on a full disk
            if kind == "python":
                temporary.write_bytes(b"new")
            else:
                pl.DataFrame({"a": range(1000)}).write_parquet(temporary)
        assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1
        assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_only_a_full_disk_counts_as_one() -> None:
    assert is_full_disk(OSError(errno.ENOSPC, "x")) and is_full_disk(OSError(errno.EDQUOT, "x"))
    assert is_full_disk(RuntimeError("write failed: No space left on device (os error 28)"))
    assert not is_full_disk(OSError(errno.EACCES, "No space left on device.txt"))
    assert not is_full_disk(ValueError("no"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="cannot write"):
            write_json(tmp_path / "new" / "a.json", {})
    finally:
        tmp_path.chmod(0o700)


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"text": "Amélie ‟\n", "numbers": [1, 2.5, None, True]}
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"a": 1', b"\xff\xfe", b"nonsense"])
def test_absent_or_broken_json_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*a\.json"):
        read_json(path)


def test_json_that_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"set": {1, 2}})
    assert read_json(path) == 1 and list(tmp_path.iterdir()) == [path]


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
