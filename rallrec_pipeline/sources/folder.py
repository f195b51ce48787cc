"""Files of a local folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.source import SourceFile, parts_of


def found_files(folder: Path, files: Sequence[SourceFile]) -> dict[SourceFile, dict[Path, str]]:
    """What each of `files` stands for in `folder`: see `parts_of`. Raises DataError when `folder` lacks one."""
    found = {file: parts_of(folder, file.path) for file in files}
    missing = [file.path for file, parts in found.items() if not parts]
    if missing:
        raise DataError(f"the folder {folder} lacks {', '.join(missing)}: correct source.location")
    return found


def copy_files(folder: Path, files: Sequence[SourceFile], target: Path) -> list[Path]:
    """Copies of `files` in `target`; parts of one table keep their names in a folder of its name.

    Raises DataError when `folder` lacks one.
    """
    for file, parts in found_files(folder, files).items():
        for part, name in parts.items():
            place = target / file.name / name if name else target / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, place)
    return [target / file.name for file in files]
