"""Files of a result are what its record says, whoever reads them and by whichever path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from rallrec_pipeline.errors import DamagedError
from rallrec_pipeline.lake.checksums import REMEMBERED, FileState, is_damaged
from rallrec_pipeline.lake.sealed import read_sealed

MANIFEST = "manifest.json"
ADDRESS = 4  # parts of `results/<dataset>/<stage>/<fingerprint>`, which the paths of a record begin with

_read: dict[tuple[Path, int, int], Mapping[str, FileState]] = {}


def require_sound(paths: Iterable[Path]) -> None:
    """Raise DamagedError when files of a result, also by their paths in the lake, are not what its record says.

    Files of no finished result are let through: drafts, and those of a lake from before there were records. So are
    edited ones, whose size or time says so.
    """
    for path in paths:
        real = Path(os.path.realpath(path))
        folder = next((parent for parent in real.parents if (parent / MANIFEST).is_file()), None)
        if folder is None:
            continue
        state = _states(folder / MANIFEST).get(real.relative_to(folder).as_posix())
        if state is not None and is_damaged(real, state):
            raise DamagedError(f"{path} is damaged: {advice(*folder.parts[-3:-1])}")


def advice(dataset: str, stage: str, profile: str | None = None) -> str:
    """How to have a result made anew, in words."""
    name = "DATASET" if dataset.startswith("_") else dataset
    chosen = f"--study {stage.removeprefix('study_')}" if stage.startswith("study_") else f"--select {stage}"
    variant = f" --profile {profile}" if profile else ""
    return f"run `rallrec run {name} {chosen}{variant}` to make it anew"


def _states(manifest: Path) -> Mapping[str, FileState]:
    """What a record says of the files in its folder, by their paths there. Raises DamagedError."""
    found = manifest.stat()
    key = (manifest, found.st_mtime_ns, found.st_ino)
    if key not in _read:
        if len(_read) >= REMEMBERED:
            _read.clear()
        try:
            files = read_sealed(manifest)["files"].items()
            _read[key] = {
                "/".join(Path(name).parts[ADDRESS:]): (int(size), int(changed), str(total))
                for name, (size, changed, total) in files
                if name.startswith("results/")
            }
        except (DamagedError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{manifest} is damaged: {advice(*manifest.parts[-4:-2])}") from error
    return _read[key]
