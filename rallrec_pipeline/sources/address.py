"""Addresses of the web as they may be shown: without a password, and without a query, which may hold a token."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")


def shown_address(address: str) -> str:
    """`address` without user, password, query and fragment; what is no address of the web is as it is."""
    try:
        parts = urlsplit(address)
        if not parts.scheme or not parts.netloc:
            return address
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return "an address that cannot be read" if "@" in address else address.partition("?")[0]


def has_password(address: str) -> bool:
    """Whether an address, also that of a requirement, names a user or a password."""
    return any("@" in found.partition("://")[2].partition("/")[0] for found in _ADDRESS.findall(address))


def without_secrets(text: str) -> str:
    """`text` with every address in it as `shown_address` shows it."""
    return _ADDRESS.sub(lambda found: shown_address(found[0]), text)
