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
from rallrec_pipeline.lake.files import file_sha256, file_states, read_json, write_json

HASH_LENGTH = 32  # hex digits: 128 bits


def stable_hash(*parts: Any) -> str:
    """128-bit hex digest of JSON-able values, the same in every process and version of Python."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:HASH_LENGTH]


def content_version(paths: Iterable[Path]) -> str:
    """Data version of an artefact: the hash of the bytes of its files, by name."""
    return stable_hash([(file.name, file_sha256(file)) for file in _files(paths)])


def artefact_states(paths: Iterable[Path]) -> list[list[object]]:
    """Name, size and time of change of the files of an artefact: while they hold, nothing has to be hashed."""
    return file_states(_files(paths))


def hash_column(values: Iterable[Any]) -> list[str]:
    """`stable_hash` of each value."""
    return [stable_hash(value) for value in values]


@dataclass(frozen=True)
class Sidecar:
    """What is known about one artefact of one dataset.

    `data_version` is the hash of its content: of its files' bytes, or of less where these hold run ids and times, whose
    bytes `bytes_version` then is. `rows_file` holds the provenance of each row, where rows have one of their own.
    """

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
    bytes_version: str = ""
    states: list[list[object]] = field(default_factory=list)
    rows_file: str | None = None

    def is_whole(self, lake: Path) -> bool:
        """Whether the files are still those that the record was written for; an edited one is made again."""
        paths = [lake / name for name in self.files]
        if self.states and artefact_states(paths) == self.states:
            return True
        return content_version(paths) == (self.bytes_version or self.data_version)


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


def _files(paths: Iterable[Path]) -> list[Path]:
    """Files of an artefact; names that begin with a dot are temporary ones, perhaps of a run that was killed."""
    found = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def now() -> str:
    """UTC time in ISO 8601, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"cannot hash {type(value).__name__}")
