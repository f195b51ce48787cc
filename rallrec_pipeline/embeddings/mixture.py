"""The mixed item vector (eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from rallrec_pipeline.settings import RelevanceKind


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, d) with each row at L2 norm 1; zero rows stay zero."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    return unit.astype(np.float32)


def mix(
    parts: Mapping[RelevanceKind, NDArray[np.float32]], weights: Mapping[RelevanceKind, float]
) -> NDArray[np.float32]:
    """Eq. 7: the row-normalised (n, d_i) `parts`, each times sqrt(weight), side by side: (n, sum of d_i).

    A dot product of two rows is then the weighted sum of the parts' cosines. A part of weight 0, or without a
    weight, is left out. Raises ConfigError when no part is left or a weight is negative.
    """
    kept = [kind for kind in parts if weights.get(kind, 0.0) != 0]
    if not kept or any(weights[kind] < 0 for kind in kept):
        raise ConfigError(f"[mixture] weights are {dict(weights)}: at least one part must weigh more than 0, none less")
    return np.concatenate([unit_rows(parts[kind]) * np.float32(np.sqrt(weights[kind])) for kind in kept], axis=1)
