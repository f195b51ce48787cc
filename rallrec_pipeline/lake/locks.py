"""One writer at a time: a lock per dataset, and one for the LLM (no dataset starts with an underscore).

The operating system frees a lock when its process ends, however it ends, so nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import write_json

SAY_AFTER_S = 0.5
LLM = "_llm"  # name of the lock that stages take which keep all cores or the GPU busy


@contextmanager
def lake_lock(lake: Path, name: str, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of `lake`; wait for whoever holds it, and say so.

    A thread that holds it already may take it again. Raises DataError when the lock file cannot be written.
    """
    path = lake / "locks" / f"{name}.lock"
    holder = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=True)
        try:
            lock.acquire(timeout=SAY_AFTER_S)
        except Timeout:
            log(f"waiting for another run ({_who(holder)}) to release {name}")
            lock.acquire()
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}): make the folder writable and run again") from error
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname()})
        yield
    finally:
        lock.release()


def lock_holder(lake: Path, name: str) -> str | None:
    """Which process holds the lock `name`, in words; None when it is free. It is taken for an instant at most."""
    path = lake / "locks" / f"{name}.lock"
    if not path.exists():
        return None
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return _who(path.with_suffix(".json"))
    except OSError:  # a lake that may only be read has no run
        return None
    lock.release()
    return None


def _who(holder: Path) -> str:
    try:
        known = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {int(known['pid'])} on {known['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown process"
