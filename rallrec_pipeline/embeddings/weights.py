"""Fitted weights as files: safetensors, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.sound import require_sound


def write_weights(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Path:
    """Store float arrays by name at `path`, atomically; equal arrays give equal bytes."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary)
    return path


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """What `write_weights` has stored. Raises StaleArtefactError when it is gone, DamagedError when it changed."""
    from safetensors.numpy import load_file

    if not path.exists():
        raise StaleArtefactError(f"there is no file {path}: run `rallrec run` again")
    require_sound([path])
    return dict(load_file(path))
