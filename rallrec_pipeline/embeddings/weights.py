"""Fitted weights as files: safetensors, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.sound import require_sound


def write_weights(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Path:
    """Store float arrays by name at `path`, atomically; equal arrays give equal bytes."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary)
    return path


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by name that `write_weights` has stored. Raises DamagedError or DataError when they cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    require_sound([path])
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read {path}: delete it and run the stage again that made it") from error
