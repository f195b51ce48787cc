"""Archives are taken apart within bounds: what a zip or a gzip file holds may be far larger than the file itself."""

from __future__ import annotations

import gzip
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import is_full_disk
from rallrec_pipeline.sources.source import SourceFile, is_pattern, name_fault

ZIP_START, GZIP_START = b"PK", b"\x1f\x8b"
COPY_BYTES = 1 << 22
MAY_FILL = 0.9  # share of the free disk space that one source may take; others write there too
BROKEN_ZIP = (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, RuntimeError)
BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


class Readable(Protocol):
    """A member of a zip, a gzip file, an answer of the web."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does; of a truncated one the end, and with it the table of members, is lost."""
    return _start(path) == ZIP_START


def unpack(archive: Path, files: Sequence[SourceFile], destination: Path) -> list[Path]:
    """Members of a zip, each written as its file's `name` in `destination`; nothing else is taken out.

    Raises DataError when the archive is truncated, lacks a member or holds more than the disk has room for.
    """
    destination.mkdir(parents=True, exist_ok=True)
    paths = [destination / file.name for file in files]  # a name leads to no other place, whatever the member's path
    try:
        with zipfile.ZipFile(archive) as packed:
            room, size = free_room(destination), _stated_size(packed, archive, files)
            require_room(size, room, archive.name, destination)
            for file, path in zip(files, paths, strict=True):
                for member, name in _members(packed, file.path).items():
                    part = path / name if name else path
                    part.parent.mkdir(parents=True, exist_ok=True)
                    with packed.open(member) as source, part.open("wb") as target:
                        room -= copy_within(source, target, room, archive.name, destination)
    except BROKEN_ZIP as error:
        raise _broken(archive, destination, error) from error
    return paths


def gunzipped(path: Path) -> Path:
    """`path`, unpacked beside it where it is gzip. Raises DataError when it is truncated or outgrows the disk."""
    if _start(path) != GZIP_START:
        return path
    target = path.with_name(path.name + ".unpacked")
    try:
        with gzip.open(path) as packed, target.open("wb") as plain:
            copy_within(packed, plain, free_room(path.parent), path.name, path.parent)
    except BROKEN_GZIP as error:
        raise _broken(path, path.parent, error) from error
    path.unlink()
    return target


def free_room(place: Path) -> int:
    """Bytes that a source may take where `place` lies."""
    return int(shutil.disk_usage(place).free * MAY_FILL)


def require_room(size: int, room: int, name: str, place: Path) -> None:
    """Raises DataError when `size` bytes are more than `room`."""
    if size > room:
        raise _too_large(f"{name} holds {_gigabytes(size)}", place, room)


def copy_within(
    source: Readable,
    target: IO[bytes],
    room: int,
    name: str,
    place: Path,
    copied_so_far: Callable[[int], None] = lambda copied: None,
) -> int:
    """Copy all of `source` to `target` and return its bytes; raises DataError before they are more than `room`."""
    copied = 0
    while chunk := source.read(COPY_BYTES):
        copied += len(chunk)
        if copied > room:
            raise _too_large(f"{name} gives more than {_gigabytes(room)}", place, room)
        target.write(chunk)
        copied_so_far(copied)
    return copied


def disk_error(error: Exception, place: Path) -> DataError:
    """The one line for a disk that is full or closed."""
    if is_full_disk(error):
        return DataError(f"no space left to write {place}: free some disk space and run again")
    return DataError(f"cannot read or write {place} ({error}): mend its permissions and run again")


def file_names(packed: zipfile.ZipFile) -> list[str]:
    """Members that are files. A damaged archive may hold one without a name, which `ZipInfo.is_dir` cannot take."""
    return [name for name in packed.namelist() if name and not name.endswith("/")]


def _members(packed: zipfile.ZipFile, path: str) -> dict[str, str]:
    """The members that `path` stands for: itself, or the parts in a folder or of a pattern, with their own names."""
    names = file_names(packed)
    if path in names:
        return {path: ""}
    parts = [name for name in names if name.startswith(path + "/")]
    if is_pattern(path):
        parts += [name for name in names if PurePosixPath(name).match(path)]
    below = {
        name: name.removeprefix(path + "/") for name in parts if not PurePosixPath(name).name.startswith((".", "_"))
    }
    return {name: part for name, part in below.items() if not name_fault(part)}


def _stated_size(packed: zipfile.ZipFile, archive: Path, files: Sequence[SourceFile]) -> int:
    """Bytes of all `files` by the zip's own account, beyond which `zipfile` reads nothing."""
    members = {member.filename: member.file_size for member in packed.infolist()}
    wanted = {file.path: _members(packed, file.path) for file in files}
    if lacking := [path for path, found in wanted.items() if not found]:
        raise DataError(f"{archive.name} does not hold {', '.join(lacking)}: the source has another version")
    return sum(members[member] for found in wanted.values() for member in found)


def _broken(archive: Path, place: Path, error: Exception) -> DataError:
    if is_full_disk(error):
        return disk_error(error, place)
    return DataError(f"{archive.name} is corrupt or truncated ({error}): run again to download it anew")


def _too_large(what: str, place: Path, room: int) -> DataError:
    return DataError(
        f"{what} of data, a source may take {_gigabytes(room)} at {place} ({MAY_FILL:.0%} of what is free): "
        "free some disk space, or distrust the archive"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.3g} GB"


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(2)
