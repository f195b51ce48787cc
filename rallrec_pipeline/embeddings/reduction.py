"""Principal components of item vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERSAMPLING, POWER_ITERATIONS = 16, 4  # of the randomised SVD (Halko et al. 2011)
EXACT_SIDE = 2048  # the full SVD is quick enough up to this shorter side


def reduce_dimensions(
    vectors: NDArray[np.float32],
    dimensions: int,
    whiten: bool = False,
    seed: int = 0,
    others: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Centred (n, d) `vectors` on their first `dimensions` principal components, float32.

    0 keeps all dimensions, unrotated unless `whiten`, which scales each component to unit variance. The result
    has min(dimensions, n, d) columns. `seed` matters only for the randomised SVD of large inputs.
    With `others` (k, d) these are given instead, in the components of `vectors`.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred: NDArray[np.float32] = (vectors - mean).astype(np.float32)
    placed = centred if others is None else (others - mean).astype(np.float32)
    if dimensions == 0 and not whiten:
        return placed
    rank = min(dimensions or vectors.shape[1], *vectors.shape)
    axes, singular = _right_singular(centred, rank, seed)
    reduced = placed @ axes.T  # (n, d) @ (d, rank)
    if whiten:
        deviation = singular / np.sqrt(max(len(vectors) - 1, 1))
        reduced = np.divide(reduced, deviation, out=np.zeros_like(reduced), where=deviation > 1e-6 * deviation.max())
    return np.ascontiguousarray(reduced, np.float32)


def _right_singular(
    matrix: NDArray[np.float32], rank: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """First `rank` right singular vectors (rank, d), signs fixed, and their singular values."""
    if min(matrix.shape) > EXACT_SIDE and rank + OVERSAMPLING < min(matrix.shape):
        start = np.random.default_rng(seed).standard_normal((matrix.shape[1], rank + OVERSAMPLING))
        basis = matrix @ start.astype(np.float32)
        for _ in range(POWER_ITERATIONS):
            basis = matrix @ (matrix.T @ np.linalg.qr(basis)[0])
        matrix = np.linalg.qr(basis)[0].T @ matrix
    _, singular, axes = np.linalg.svd(matrix, full_matrices=False)
    axes = axes[:rank]
    largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
    return axes * np.where(largest < 0, -1, 1)[:, None].astype(np.float32), singular[:rank]
