"""Atomic writes: temporary name, fsync, rename. A reader sees the old file or the new one, never a half."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from rallrec_pipeline.errors import DataError

UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""A name that `atomic_path` gives."""
FULL_DISK = ("No space left on device", "Disk quota exceeded", "StorageFull")


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path`; on success it is fsynced and renamed to `path`.

    Within such a path nothing is fsynced by itself: all of it is before it gets its name. Nor is what need not be
    `durable`: after a power cut it may be lost or empty.
    Works for a file, a folder and a link. On any error, Ctrl-C included, nothing is left behind.
    Raises DataError when the disk is full or the place is not writable.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    synced = durable and not any(UNFINISHED.fullmatch(part) for part in path.parent.parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if synced and not temporary.is_symlink():  # what a link leads to is on disk already
            _sync([*(path for path in temporary.rglob("*") if not path.is_symlink()), temporary])
        _replace(temporary, path)
        if synced:
            _sync([path.parent])
    except Exception as error:
        if is_full_disk(error):
            raise DataError(f"no space left to write {path}: free some disk space and run again") from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DataError(
                f"cannot write {path} ({error.strerror}): make the folder writable and run again"
            ) from error
        raise
    finally:
        _remove(temporary)


def is_full_disk(error: Exception) -> bool:
    """Whether `error` is that of a full disk, also where a native writer (Parquet, safetensors) hides its number."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(words in str(error) for words in FULL_DISK)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Parsed JSON of `path`. Raises DataError when it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _replace(temporary: Path, path: Path) -> None:
    # Nothing can be renamed over a folder that is not empty, nor a folder over a link.
    if path.is_dir() and not (path.is_symlink() and temporary.is_symlink()):
        old = path.with_name(f".{path.name}.{uuid4().hex[:8]}.old")
        try:
            os.replace(path, old)
            os.replace(temporary, path)
        finally:
            if old.exists() and not path.exists():  # interrupted between the two: the old one stays
                os.replace(old, path)
            _remove(old)
    else:
        os.replace(temporary, path)


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def file_states(paths: Iterable[Path]) -> list[list[object]]:
    """Name, size and time of change of each file that is there: cheap to compare, as `make` does."""
    there = [path for path in paths if os.path.isfile(path)]  # `Path.is_file` raises where nobody may look
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in there]
