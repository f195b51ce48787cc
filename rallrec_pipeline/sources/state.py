"""Whether files have changed: size and time first, then content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rallrec_pipeline.lake.files import file_sha256

State = Mapping[str, tuple[int, int, str]]
"""Of each file: size in bytes, time of change in ns, SHA-256."""


def file_state(files: list[Path], before: State) -> State:
    """The state of `files`; only one whose size or time differs from `before` is read again.

    Raises FileNotFoundError when one is missing.
    """
    found = {}
    for path in files:
        status, key = path.stat(), str(path)
        size, changed, digest = before.get(key, (-1, -1, ""))
        same = (size, changed) == (status.st_size, status.st_mtime_ns)
        found[key] = (status.st_size, status.st_mtime_ns, digest if same else file_sha256(path))
    return found


def contents(state: State) -> dict[str, str]:
    """SHA-256 by file: equal where only times differ."""
    return {path: digest for path, (_, _, digest) in state.items()}
