"""Hashes of what things are made from and of what they hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rallrec_pipeline.lake.checksums import digest

HASH_LENGTH = 32  # hex digits: 128 bits


def stable_hash(*parts: Any) -> str:
    """128-bit hex digest of JSON-able values, the same in every process and version of Python."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:HASH_LENGTH]


def content_version(paths: Iterable[Path]) -> str:
    """Data version of an artefact: the hash of the bytes of its files, by name."""
    return stable_hash([(file.name, digest(file)) for file in files_within(paths)])


def files_within(paths: Iterable[Path]) -> list[Path]:
    """Files of an artefact; names that begin with a dot are temporary ones, perhaps of a run that was killed."""
    found = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def hash_column(values: Iterable[Any]) -> list[str]:
    """`stable_hash` of each value."""
    return [stable_hash(value) for value in values]


def now() -> str:
    """UTC time in ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"cannot hash {type(value).__name__}")
