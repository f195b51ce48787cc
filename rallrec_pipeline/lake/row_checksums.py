"""The checksum of a finished row: of its values as SQLite holds them, in the order of its kind."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

CHECKSUM = "checksum"
"""Name of the column."""


def row_checksum(values: Sequence[Any]) -> bytes:
    """64 bits over texts, blobs, numbers and nulls, each with its type and length."""
    parts = []
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, bytes):
            parts.append(b"b%d:" % len(value) + value)
        elif isinstance(value, str):
            text = value.encode(errors="surrogateescape")
            parts.append(b"t%d:" % len(text) + text)
        else:
            parts.append(f"{type(value).__name__}{value!r};".encode())
    return hashlib.blake2b(b"".join(parts), digest_size=8).digest()


def add_checksum_function(connection: sqlite3.Connection) -> None:
    """Let SQL on this connection call `row_checksum(column, …)`."""
    connection.create_function("row_checksum", -1, lambda *values: row_checksum(values), deterministic=True)


def lenient_text(stored: bytes) -> str:
    """A text as it lies in a file; what is no UTF-8 becomes escapes, which no checksum fits."""
    return stored.decode(errors="surrogateescape")
