"""Files of a local folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.sources.source import SourceFile


def copy_files(folder: Path, files: Sequence[SourceFile], target: Path) -> list[Path]:
    """Copies of `files` in `target`. Raises DataError when `folder` lacks one."""
    missing = [file.path for file in files if not (folder / file.path).is_file()]
    if missing:
        raise DataError(f"the folder {folder} lacks {', '.join(missing)}: correct source.location")
    return [Path(shutil.copyfile(folder / file.path, target / file.name)) for file in files]
