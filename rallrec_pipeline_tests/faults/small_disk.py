"""A disk of a given size that a test may fill: tmpfs in a mount namespace of its own.

The system lets root make one, and on most machines any user within a user namespace. Nothing of it is left when the
process ends, however it ends.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

NAMESPACES = (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user"))
PAGE = os.sysconf("SC_PAGE_SIZE")


@cache
def namespace() -> tuple[str, ...] | None:
    """The start of a command whose process may mount; None where this user may not."""
    with TemporaryDirectory() as folder:
        for start in NAMESPACES:
            command = [*start, "mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
            try:
                if subprocess.run(command, capture_output=True, timeout=20).returncode == 0:
                    return start
            except OSError:
                continue
    return None


def needs_small_disk() -> None:
    """Skip the test where no disk can be made."""
    if namespace() is None:
        pytest.skip("neither root nor a user namespace may mount a small disk here")


class SmallDisk:
    """A tmpfs at `folder`; the process must be in a namespace of its own."""

    def __init__(self, folder: Path, size: int = 256 * 2**20) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
        self.folder, self._filler = folder, folder / "filler"

    def leave(self, pages: int) -> None:
        """Fill the disk so that `pages` pages are free."""
        self.empty()
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize // PAGE
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(0, free - pages) * PAGE)

    def empty(self) -> None:
        """Free what was filled."""
        self._filler.unlink(missing_ok=True)
