"""A file at an address of the web."""

from __future__ import annotations

import http.client
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import is_full_disk
from rallrec_pipeline.sources.archives import copy_within, free_room
from rallrec_pipeline.sources.source import Downloads
from rallrec_pipeline.text import clean_text

TIMEOUT_S = 60
MEGABYTE = 10**6


def download(address: str, folder: Path, downloads: Downloads) -> Path:
    """What `address` gives, in `folder`. Raises DataError when it breaks off or outgrows the disk."""
    if not address.startswith(("https://", "http://")):
        raise DataError(f"{address!r} is not a web address: correct source.location")
    path = folder / ("download-" + re.sub(r"[^\w.-]", "_", address.rpartition("/")[2])[-64:])
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response, path.open("wb") as target:
            announced = response.headers.get("Content-Length")
            copied = _in_megabytes(announced, downloads(f"{clean_text(address.rpartition('/')[2], 40)}, MB"))
            copy_within(response, target, free_room(folder), address, folder, copied)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if is_full_disk(error):
            raise
        reason = clean_text(str(error)) or type(error).__name__
        raise DataError(f"cannot download {address} ({reason}): check the address and the network") from error
    size = path.stat().st_size
    if announced is not None and announced.strip() != str(size):
        raise DataError(f"the download of {address} broke off after {size} of {announced} bytes: run again")
    return path


def _in_megabytes(announced: str | None, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """Progress in bytes of what the server says it sends; silent where it does not say or it is little.

    Done is told once, when all is there: rounding alone would say so before.
    """
    size = int(announced) if announced and announced.strip().isdecimal() else 0
    total = -(-size // MEGABYTE)

    def told(copied: int) -> None:
        if copied <= size:
            progress(total if copied == size else min(copied // MEGABYTE, total - 1), total)

    return told if total > 1 else (lambda copied: None)
