"""A file at an address of the web."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import is_full_disk
from rallrec_pipeline.sources.address import has_password, shown_address, without_secrets
from rallrec_pipeline.sources.archives import copy_within, free_room, require_room
from rallrec_pipeline.sources.source import Downloads
from rallrec_pipeline.text import clean_text

TIMEOUT_S = 60
MEGABYTE = 10**6


def download(address: str, folder: Path, downloads: Downloads) -> Path:
    """What `address` gives, in `folder`; redirects are followed to web addresses only.

    Raises DataError, in which no password or token stands, when it breaks off or outgrows the disk.
    """
    shown = shown_address(address)
    if not address.startswith(("https://", "http://")):
        raise DataError(f"{shown!r} is not a web address: correct source.location")
    path = folder / ("download-" + re.sub(r"[^\w.-]", "_", shown.rpartition("/")[2])[-64:])
    try:
        with _web_opener().open(address, timeout=TIMEOUT_S) as response, path.open("wb") as target:
            announced = response.headers.get("Content-Length")
            require_room(announced_size(announced), free_room(folder), shown, folder)
            copied = _in_megabytes(announced, downloads(f"{clean_text(shown.rpartition('/')[2], 40)}, MB"))
            copy_within(response, target, free_room(folder), shown, folder, copied)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if is_full_disk(error):
            raise
        reason = clean_text(without_secrets(str(error))) or type(error).__name__
        raise DataError(f"cannot download {shown} ({reason}): check the address and the network") from None
    size = path.stat().st_size
    if announced is not None and announced.strip() != str(size):
        raise DataError(f"the download of {shown} broke off after {size} of {announced} bytes: run again")
    return path


def announced_size(announced: str | None) -> int:
    """Bytes that a server says it sends; 0 where it does not say."""
    return int(announced) if announced and announced.strip().isdecimal() else 0


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to another address of the web that names no password."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(("https://", "http://")) or has_password(newurl):
            raise urllib.error.URLError(f"it leads to {shown_address(newurl)!r}, which is no plain web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _web_opener() -> urllib.request.OpenerDirector:
    """Neither files nor FTP nor data; proxies as the environment has them."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _WebOnly,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _in_megabytes(announced: str | None, progress: Callable[[int, int], None]) -> Callable[[int], None]:
    """Progress in bytes of what the server says it sends; silent where it does not say or it is little.

    Done is told once, when all is there: rounding alone would say so before.
    """
    size = announced_size(announced)
    total = -(-size // MEGABYTE)

    def told(copied: int) -> None:
        if copied <= size:
            progress(total if copied == size else min(copied // MEGABYTE, total - 1), total)

    return told if total > 1 else (lambda copied: None)
