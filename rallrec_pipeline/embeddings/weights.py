"""Fitted weights as files: safetensors, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.lake.files import atomic_path


def write_weights(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Path:
    """Store float arrays by name at `path`, atomically; equal arrays give equal bytes."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, temporary)
    return path
