"""Fingerprints and sidecars: what an artefact was made from, and whether it must be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import file_sha256, read_json, write_json

HASH_LENGTH = 32  # hex digits: 128 bits


def stable_hash(*parts: Any) -> str:
    """128-bit hex digest of JSON-able values, the same in every process and version of Python."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:HASH_LENGTH]


def content_version(paths: Iterable[Path]) -> str:
    """Data version of an artefact: the hash of the bytes of its files, by name."""
    files = sorted(f for path in paths for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())
    return stable_hash([(file.name, file_sha256(file)) for file in files])


@dataclass(frozen=True)
class Sidecar:
    """What is known about one artefact of one dataset."""

    artefact: str
    dataset: str
    fingerprint: str
    data_version: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    code_version: str
    run_id: str
    created_at: str
    seconds: float
    files: list[str] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def sidecar_path(lake: Path, artefact: str, dataset: str) -> Path:
    """Sidecars lie together, so that `status` reads one folder."""
    return lake / "provenance" / dataset / f"{artefact}.json"


def read_sidecar(lake: Path, artefact: str, dataset: str) -> Sidecar | None:
    """The sidecar, or None when the artefact was never made or a file of it has gone."""
    path = sidecar_path(lake, artefact, dataset)
    if not path.exists():
        return None
    try:
        sidecar = Sidecar(**read_json(path))
        return sidecar if all((lake / name).exists() for name in sidecar.files) else None
    except (DataError, TypeError):
        return None  # an unreadable record is as good as none: the artefact is made again


def write_sidecar(lake: Path, sidecar: Sidecar) -> None:
    """Store `sidecar` atomically."""
    write_json(sidecar_path(lake, sidecar.artefact, sidecar.dataset), asdict(sidecar))


def now() -> str:
    """UTC time in ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"cannot hash {type(value).__name__}")
