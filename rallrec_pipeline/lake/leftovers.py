"""Files that killed runs left behind, and what a file or folder takes on disk."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

TEMPORARY = re.compile(
    r"\.(.+\.[0-9a-f]{8}\.(tmp(-wal|-shm|-journal)?|old)|(check|fetch|lines|model|objects|redact|unpacked|wheel)-([^/]+-)?\w{8})"
)
TEMPORARY_AGE = timedelta(days=1)
OWN = ("results/{0}", "refs/{0}", "raw/{0}", "cache/adapters/{0}")
"""Folders in which only runs of one dataset write, who hold its lock."""
UNLINKED = ("cache", "locks", "models", "raw", "refs", "results")
"""Folders of a lake that hold no links to results."""


def remove_leftovers(lake: Path, dataset: str, *folders: str) -> int:
    """Remove what killed runs of `dataset` were writing, and what lies below `folders`; returns how much went.

    The caller holds the dataset's lock, so whoever was at work there is gone. What another user owns stays.
    """
    gone = 0
    for path in _leftovers(lake, dataset, folders):
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            gone += 1
    return gone


def _leftovers(lake: Path, dataset: str, folders: Sequence[str]) -> Iterator[Path]:
    for folder in (*OWN, *folders):
        yield from _within(lake / folder.format(dataset))
    yield from _links(lake, lake / "results" / dataset)
    fetched = re.compile(rf"\.fetch-{re.escape(dataset)}-\w{{8}}")
    yield from (path for path in lake.glob(".fetch-*") if fetched.fullmatch(path.name))


def _within(top: Path) -> Iterator[Path]:
    """What lies below `top` under a temporary name."""
    for folder, folders, files in os.walk(top):
        found = [name for name in (*folders, *files) if is_temporary(name)]
        folders[:] = [name for name in folders if name not in found]
        yield from (Path(folder, name) for name in sorted(found))


def _links(lake: Path, results: Path) -> Iterator[Path]:
    """Links under temporary names that lead into `results`."""
    for top in sorted(lake.iterdir()):
        if top.is_dir() and not top.is_symlink() and top.name not in UNLINKED:
            for path in _within(top):
                if path.is_symlink() and results in Path(os.path.normpath(path.parent / os.readlink(path))).parents:
                    yield path


def temporary_files(lake: Path, now: datetime) -> Iterator[Path]:
    """Files and folders under temporary names in which nothing was written for a day."""
    for path in _within(lake):
        if not path.is_symlink() and changed(path) < (now - TEMPORARY_AGE).timestamp():
            yield path


def is_temporary(name: str) -> bool:
    """Whether a name is one that unfinished work has."""
    return TEMPORARY.fullmatch(name) is not None


def size_of(path: Path) -> tuple[int, int]:
    """Files and bytes of a file or folder; a file that others share on disk counts as nothing that can be freed."""
    files = list(_files(path))
    return len(files), sum(file.lstat().st_size for file in files if file.lstat().st_nlink == 1)


def changed(path: Path) -> float:
    """Time of the last change of a file or of anything in a folder."""
    return max(entry.lstat().st_mtime for entry in (path, *_files(path)))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
