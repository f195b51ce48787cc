"""Files that killed runs left behind, and what a file or folder takes on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

TEMPORARY = re.compile(r"\.(.+\.[0-9a-f]{8}\.(tmp|old)|(check|fetch|lines|model|objects|unpacked|wheel)-\w{8})")
TEMPORARY_AGE = timedelta(days=1)


def temporary_files(lake: Path, now: datetime) -> Iterator[Path]:
    """Files and folders under temporary names in which nothing was written for a day."""
    for folder, folders, files in os.walk(lake):
        found = [name for name in (*folders, *files) if is_temporary(name)]
        folders[:] = [name for name in folders if name not in found]
        for path in (Path(folder, name) for name in sorted(found)):
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
