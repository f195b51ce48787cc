"""Whether the raw files of a dataset have changed: size and time first, then content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.files import file_sha256

State = Mapping[str, tuple[int, int, str]]
"""Of each file: size in bytes, time of change in ns, SHA-256."""


def local_files(spec: DatasetSpec) -> list[Path]:
    """The files of a local source where they lie: those of a folder, or the zip; empty for sources elsewhere."""
    place = Path(spec.source.location).expanduser()
    if spec.source.kind == "zip":
        return [place]
    return [place / file.path for file in spec.files] if spec.source.kind == "folder" else []


def watched_files(spec: DatasetSpec, lake: Path) -> list[Path]:
    """The files of a local source, else those under `raw/<dataset>/`."""
    return local_files(spec) or [raw_folder(lake, spec.name) / file.name for file in spec.files]


def file_state(files: list[Path], before: State) -> State:
    """The state of `files`; only one whose size or time differs from `before` is read again.

    Raises FileNotFoundError when one is missing.
    """
    found = {}
    for path in files:
        status, key = path.stat(), str(path)
        size, changed, digest = before.get(key, (-1, -1, ""))
        same = (size, changed) == (status.st_size, status.st_mtime_ns)
        found[key] = (status.st_size, status.st_mtime_ns, digest if same else file_sha256(path))
    return found


def contents(state: State) -> dict[str, str]:
    """SHA-256 by file: equal where only times differ."""
    return {path: digest for path, (_, _, digest) in state.items()}
