"""One bit of a file turned over, as a tired disk does it: size and time stay."""

from __future__ import annotations

import os
import random
from pathlib import Path


def flip(path: Path, chance: random.Random, start: int = 0, end: int | None = None) -> None:
    """Turn over one bit of a file, between the bytes `start` and `end`."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(start, end or len(data))] ^= 1 << chance.randrange(8)
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    """Let a file hold `data` without its time telling."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
