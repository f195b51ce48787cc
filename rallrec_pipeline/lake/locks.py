"""One writer at a time: a lock per dataset, and one for the LLM (no dataset starts with an underscore).

A lock is two files: `.lock`, which the operating system locks, and `.json`, the process that took it last. Runs of
Dagster are guarded by the same pair in another folder (`orchestration/recovery.py`).

The operating system frees a lock when its process ends, however it ends, so nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json, write_json

SAY_AFTER_S = 0.5
LLM = "_llm"  # name of the lock that stages take which keep all cores or the GPU busy
UNSUPPORTED = (OSError, NotImplementedError)  # a file system without locks, or one that may only be read


@contextmanager
def lake_lock(lake: Path, name: str, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of `lake`; wait for whoever holds it, and say so.

    A thread that holds it already may take it again. Raises DataError when the lock file cannot be written.
    """
    file = lake / "locks" / f"{name}.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, is_singleton=True)
        try:
            lock.acquire(timeout=SAY_AFTER_S)
        except Timeout:
            log(f"waiting for another run ({holder_of(file)}) to release {name}")
            lock.acquire()
    except OSError as error:
        raise DataError(f"cannot write {file} ({error.strerror}): make the folder writable and run again") from error
    try:
        write_holder(file, durable=False)  # a power cut frees the lock: then nobody asks who held it
        yield
    finally:
        lock.release()


def lock_holder(lake: Path, name: str) -> str | None:
    """Which process holds the lock `name`, in words; None when it is free. It is taken for an instant at most."""
    file = lake / "locks" / f"{name}.lock"
    if not file.exists():
        return None
    with taken(file) as free:
        return holder_of(file) if free is False else None


@contextmanager
def taken(file: Path) -> Iterator[bool | None]:
    """Hold the lock `file` within the block if nobody else does: True, False, or None where nothing can be known."""
    lock = FileLock(file)
    free: bool | None = True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        free = False
    except UNSUPPORTED:
        free = None
    try:
        yield free
    finally:
        lock.release()


def write_holder(file: Path, durable: bool = True) -> None:
    """Write beside the lock `file`, as `.json`, that this process holds it. Raises DataError.

    Whoever held it before and was writing there is gone: what that left goes.
    """
    for half in file.parent.glob(f".{file.stem}.json.*.tmp"):
        half.unlink(missing_ok=True)
    write_json(_record(file), {"pid": os.getpid(), "host": socket.gethostname()}, durable)


def holder_of(file: Path) -> str:
    """The process that took the lock `file` last, in words."""
    known = _holder(file)
    return f"process {known[0]} on {known[1]}" if known else "an unknown process"


def was_held_here(file: Path) -> bool:
    """Whether the process that took the lock `file` last is known, and of this host."""
    known = _holder(file)
    return known is not None and known[1] == socket.gethostname()


def _holder(file: Path) -> tuple[int, str] | None:
    try:
        known = read_json(_record(file))
        return int(known["pid"]), str(known["host"])
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return None


def _record(file: Path) -> Path:
    return file.with_suffix(".json")
