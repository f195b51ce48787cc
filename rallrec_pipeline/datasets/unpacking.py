"""Files as they come: packed ones are read through, told by their first bytes and bounded in what they may give.

gz, bz2, xz, zst, zip and tar, also one within another (`.tar.gz`). An archive must hold one file of data.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, cast

import pyarrow as pa  # type: ignore[import-untyped]

from rallrec_pipeline.datasets.endings import format_of
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.archives import copy_within, file_names, free_room

STREAMS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
ZIP, TAR, TAR_PLACE = b"PK\x03\x04", b"ustar", 257
PEEK = 512  # bytes that tell what a file is
MOST_LAYERS = 3
ALWAYS, MOST_TIMES = 1 << 30, 250  # bytes that any file may give, and how many times its own size: text gives less
BROKEN = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, RuntimeError)
NOT_BROKEN = (FileNotFoundError, PermissionError, IsADirectoryError)


@contextmanager
def open_plain(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of `path`, unpacked where it is packed.

    Raises DataError, also while it is read, when it is broken, holds not one file of data or gives too much.
    """
    with ExitStack() as stack:
        stream: IO[bytes] = cast(IO[bytes], stack.enter_context(path.open("rb")))
        if not _packing(_peek(stream)):
            yield stream
            return
        yield cast(IO[bytes], io.BufferedReader(_Bounded(path, stack, stream), 1 << 20))


def packing_of(path: Path) -> str:
    """How a file is packed, by its first bytes; empty where it is not."""
    with path.open("rb") as stream:
        return _packing(_peek(cast(IO[bytes], stream)))


@contextmanager
def plain_file(path: Path, scratch: Path) -> Iterator[Path]:
    """`path`, or where it is packed what it holds as a file below `scratch` as long as the context is open."""
    if not packing_of(path):
        yield path
        return
    with TemporaryDirectory(dir=scratch, prefix=".unpacked-") as folder:
        copy = Path(folder) / "file"
        with open_plain(path) as stream, copy.open("wb") as target:
            copy_within(stream, target, free_room(Path(folder)), path.name, path.parent)
        yield copy


class _Bounded(io.RawIOBase):
    """What a packed file gives, up to a bound; whatever is wrong with it is one line."""

    def __init__(self, path: Path, stack: ExitStack, stream: IO[bytes]) -> None:
        self._path, self._given = path, 0
        self._most = max(ALWAYS, MOST_TIMES * path.stat().st_size)
        with self._telling():
            for _ in range(MOST_LAYERS):
                if not (packing := _packing(_peek(stream))):
                    break
                stream = _unpacked(packing, stream, path, stack)
        self._stream = stream

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next bytes."""
        with self._telling():
            chunk = self._stream.read(len(buffer))
        self._given += len(chunk)
        if self._given > self._most:
            raise DataError(
                f"{self._path} gives more than {self._most / 1e9:,.3g} GB of data, {MOST_TIMES} times its size: "
                "distrust the file, or unpack it yourself"
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except NOT_BROKEN:
            raise
        except BROKEN as error:
            raise DataError(f"{self._path} is packed, and corrupt or truncated ({error}): pack it again") from error


def _peek(stream: IO[bytes]) -> bytes:
    start = stream.read(PEEK)
    stream.seek(0)
    return start


def _packing(start: bytes) -> str:
    if start.startswith(ZIP):
        return "zip"
    if start[TAR_PLACE:].startswith(TAR):
        return "tar"
    return next((name for magic, name in STREAMS.items() if start.startswith(magic)), "")


def _unpacked(packing: str, stream: IO[bytes], path: Path, stack: ExitStack) -> IO[bytes]:
    """One layer less, at its beginning and seekable back to it."""
    if packing == "gzip":
        return cast(IO[bytes], stack.enter_context(gzip.open(stream)))
    if packing == "bz2":
        return cast(IO[bytes], stack.enter_context(bz2.open(stream)))
    if packing == "xz":
        return cast(IO[bytes], stack.enter_context(lzma.open(stream)))
    if packing == "zst":
        return cast(IO[bytes], _Zst(stream))
    if packing == "zip":
        packed = stack.enter_context(zipfile.ZipFile(stream))
        names = file_names(packed)
        return stack.enter_context(packed.open(_the_only(names, path)))
    archive = stack.enter_context(tarfile.open(fileobj=stream))  # noqa: SIM115
    only = _the_only([member.name for member in archive if member.isreg()], path)
    found = archive.extractfile(only)
    if found is None:
        raise tarfile.ReadError(f"{only} is no file")
    return found


class _Zst(io.RawIOBase):
    """What zstd gives. The library's own stream cannot go back, which peeking needs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._source, self._place = stream, 0
        self._open()

    def _open(self) -> None:
        self._source.seek(0)
        self._stream, self._place = pa.CompressedInputStream(pa.PythonFile(_Kept(self._source), "r"), "zstd"), 0

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def seekable(self) -> bool:
        """Tar wants to know."""
        return True

    def tell(self) -> int:
        """Bytes that were given."""
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Backwards it begins anew, forwards it reads."""
        target = offset if whence == 0 else self._place + offset
        if target < self._place:
            self._open()
        while self._place < target and self.read(min(1 << 20, target - self._place)):
            pass
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """The next bytes."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._place += len(chunk)
        return len(chunk)


class _Kept(io.RawIOBase):
    """A stream that stays open when its reader is closed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        return self._stream.read(size)


def _the_only(names: list[str], path: Path) -> str:
    """The one file of data in an archive; what only tells about others, as a licence, is none."""
    parts = {name: PurePosixPath(name).parts for name in names}
    plain = [name for name in names if not any(part[:1] in (".", "_") for part in parts[name])]
    known = [
        name for name in plain if format_of(name) and PurePosixPath(name).stem.lower() not in ("readme", "license")
    ]
    if len(plain) == 1 or len(known) == 1:
        return (known if len(known) == 1 else plain)[0]
    held = ", ".join(plain[:5]) or "no file"
    raise DataError(f'{path} holds {held}: name one of them with source.kind = "zip", or unpack it')
