"""An archive that holds more than the disk has room for is refused, whatever it says of itself."""

from __future__ import annotations

import gzip
import shutil
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources import archives
from rallrec_pipeline.sources.archives import copy_within, gunzipped, unpack
from rallrec_pipeline.sources.source import SourceFile

SIZE = 40_000_000  # of zeros, which pack to a thousandth
MEMBERS = [SourceFile("a.csv", "deep/a.csv"), SourceFile("b.csv")]


class Usage(NamedTuple):
    free: int


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which a tenth of SIZE is free."""
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda place: Usage(SIZE // 10))


def packed(folder: Path) -> Path:
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/a.csv", bytes(SIZE))
        archive.writestr("b.csv", b"small")
    assert path.stat().st_size < SIZE / 500
    return path


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_archive_with_room_is_unpacked_whole(tmp_path: Path) -> None:
    assert [path.stat().st_size for path in unpack(packed(tmp_path), MEMBERS, tmp_path / "out")] == [SIZE, 5]


@pytest.mark.usefixtures("small_disk")
def test_a_zip_that_holds_too_much_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        unpack(packed(tmp_path), MEMBERS, tmp_path / "out")
    assert "bomb.zip holds 0.04 GB of data, a source may take 0.0036 GB" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and written(tmp_path / "out") == 0
    assert unpack(tmp_path / "bomb.zip", MEMBERS[1:], tmp_path / "out")[0].read_bytes() == b"small"


def test_a_zip_that_understates_its_size_gives_no_more_than_it_says(tmp_path: Path) -> None:
    path = packed(tmp_path)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", SIZE), struct.pack("<I", 1000)))
    with pytest.raises(DataError, match=r"bomb\.zip is corrupt"):
        unpack(path, MEMBERS, tmp_path / "out")
    assert written(tmp_path / "out") <= 1000


@pytest.mark.usefixtures("small_disk")
def test_gzip_that_holds_too_much_is_stopped_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(SIZE)))
    before = written(tmp_path)
    with pytest.raises(DataError, match=r"bomb\.csv\.gz gives more than 0\.0036 GB of data") as caught:
        gunzipped(path)
    assert len(str(caught.value).splitlines()) == 1
    assert written(tmp_path) - before <= SIZE / 10


def test_gzip_with_room_is_unpacked_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "good.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" * 1000))
    assert gunzipped(path).read_bytes() == b"a,b\n" * 1000 and not path.exists()
    plain = shutil.copyfile(tmp_path / "good.csv.gz.unpacked", tmp_path / "plain.csv")
    assert gunzipped(plain) == plain


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_what_fits_is_copied_whole(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(size))
    with source.open("rb") as stream, (tmp_path / "target").open("wb") as target:
        assert copy_within(stream, target, 1000, "source", tmp_path) == size
    assert (tmp_path / "target").stat().st_size == size
