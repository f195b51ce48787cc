"""A folder that holds the files of a source, and is filled again only when the source has changed.

Whatever the source, a file is checked before it is renamed into the folder: a broken download leaves nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.checksums import digest
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.sources.archives import disk_error
from rallrec_pipeline.sources.fetch import fetch, require_local
from rallrec_pipeline.sources.record import (
    edited_files,
    has_changed,
    lost_files,
    record_path,
    source_files,
    write_record,
)
from rallrec_pipeline.sources.source import Downloads, Source, SourceFile, data_files, silent

EDITED = ".edited"
"""How the name of a copy of a file ends that somebody has changed."""


class Rewriter(Protocol):
    """What is taken out of files before they are put into their folder."""

    def is_good(self, file: SourceFile) -> bool:
        """Whether what lies in the folder is what is left of the right file."""

    def redact(self, file: SourceFile, path: Path) -> object:
        """Take it out of `path`, which was fetched as `file`."""


def require_files(source: Source, folder: Path) -> None:
    """Raises DataError, as `collect` will, where it needs a local source that is not there or lacks a file."""
    try:
        are_there = all((folder / file.name).exists() for file in source.files)
        are_pinned = all(file.sha256 for file in source.files)
        if not are_there or (not are_pinned and has_changed(source, folder, {})):
            with _with_advice(source, folder):
                require_local(source)
    except OSError as error:
        raise disk_error(error, folder) from error


def collect(
    source: Source,
    folder: Path,
    lake: Path,
    downloads: Downloads = silent,
    damaged: Collection[str] = (),
    say: Callable[[str], None] = lambda _: None,
    rewriter: Rewriter | None = None,
) -> list[Path]:
    """The files of `source` in `folder` of the lake, fetched where they are not there yet.

    They are fetched again where the source is another, where some are `damaged`, gone or have become empty, or where a
    local folder or zip has other content than when it was last looked at, or than its copy; nothing else is downloaded
    a second time. Files that were put there by hand are taken as they are where the source is elsewhere or gone. One
    that is no longer what its pinned checksum says, or the copy of a local source, is kept under another name when the
    published one takes its place, and `say` is told. Raises DataError that says which files to put where when the
    source cannot be reached or a checksum differs.
    """
    paths = [folder / file.name for file in source.files]
    try:
        lost = set(damaged) | (lost_files(source, folder) if rewriter is None else set())
        are_good = all(file.name not in lost and _is_good(folder, file, rewriter) for file in source.files)
        if are_good and all(file.sha256 for file in source.files):
            return paths  # whatever the source holds now, they are what is asked for
        now = source_files(source, folder)  # before the copy: what changes meanwhile is seen the next time
        edited = edited_files(source, folder) - set(damaged) if rewriter is None else set()
        is_there = bool(now) and len(now) == len(source.local_files)
        if not are_good or has_changed(source, folder, now) or (edited and is_there):
            _fetch_into(source, folder, lake, downloads, lost - edited, edited, say, rewriter)
        else:
            for name in sorted(edited):
                told = "is another than was fetched and is taken as it is: delete it to fetch it"
                say(f"warning: {folder / name} {told}")
        write_record(source, folder, now)
    except OSError as error:
        raise disk_error(error, folder) from error
    return paths


def _fetch_into(
    source: Source,
    folder: Path,
    lake: Path,
    downloads: Downloads,
    lost: Collection[str],
    edited: Collection[str],
    say: Callable[[str], None],
    rewriter: Rewriter | None,
) -> None:
    lake.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=lake, prefix=f".fetch-{folder.name}-") as scratch:
        with _with_advice(source, folder):
            found = fetch(source, Path(scratch), downloads)
        for path, file in zip(found, source.files, strict=True):
            if rewriter is not None:
                rewriter.redact(file, path)
            if file.name not in lost and not (rewriter and rewriter.is_good(file)):
                _keep_edited(folder, file, file.name in edited, say)
            if (folder / file.name).is_dir() != path.is_dir():  # a file cannot be renamed over a folder
                shutil.rmtree(folder / file.name, ignore_errors=True)
                (folder / file.name).unlink(missing_ok=True)
            with atomic_path(folder / file.name) as temporary:
                shutil.move(path, temporary)


def _keep_edited(folder: Path, file: SourceFile, is_edited: bool, say: Callable[[str], None]) -> None:
    """Put a file or folder that somebody has changed beside the published one that is about to take its place."""
    path = folder / file.name
    if file.sha256 is not None:
        is_edited = path.is_file() and digest(path) != file.sha256
    if not is_edited:
        return
    places = (path.with_name(f"{path.name}{f'.{n}' if n > 1 else ''}{EDITED}") for n in count(1))
    kept = next(place for place in places if not place.exists())
    path.replace(kept)
    other, instead = "another than its source", "To have it so, edit the source"
    if file.sha256 is not None:
        other, instead = "not as published (SHA-256)", "To work on edited files, describe them as a dataset of your own"
    say(f"warning: {path} is {other} and is fetched again; what was there is kept as {kept.name}. {instead}")


@contextmanager
def _with_advice(source: Source, folder: Path) -> Iterator[None]:
    """An error within the block says how to go on without the source, too."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; or {_by_hand(source, folder)}") from error


def _by_hand(source: Source, folder: Path) -> str:
    """How to go on without the source."""
    names = ", ".join(file.name for file in source.files)
    record = record_path(folder)
    forget = f" and delete {record.name} there" if record.exists() else ""
    forget += " and take the source away" if any(path.exists() for path in source.local_files) else ""
    there = [file for file in source.files if (folder / file.name).exists()]
    bad = ", ".join(file.name for file in there if not _is_good(folder, file))
    refused = f" ({bad} there has another SHA-256)" if bad else ""
    return f"put {names} into {folder} by hand{forget}{refused}"


def _is_good(folder: Path, file: SourceFile, rewriter: Rewriter | None = None) -> bool:
    path = folder / file.name
    if rewriter is not None:
        return rewriter.is_good(file)
    if path.is_dir():
        return file.sha256 is None and bool(data_files(path))
    return path.is_file() and (file.sha256 is None or digest(path) == file.sha256)
