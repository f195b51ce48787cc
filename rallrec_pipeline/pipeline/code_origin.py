"""Which code a report was made by."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
"""Where the package lies: the repository, if it was not installed elsewhere."""
GIT_S = 10


@cache
def code_origin(folder: Path = SOURCE) -> str:
    """`rallrec-pipeline 0.1.0, commit 1a2b3c4d5e`; `-dirty` follows where files were edited since.

    Without git, or outside a repository of its own, the version stands alone.
    """
    told = f"rallrec-pipeline {version('rallrec-pipeline')}"
    if not (folder / ".git").exists():  # a repository further up is that of another project
        return told
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_S)
    except (OSError, subprocess.SubprocessError):
        return told
    return f"{told}, commit {found.stdout.strip()}"
