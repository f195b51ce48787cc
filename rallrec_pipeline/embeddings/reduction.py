"""Principal components of item vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OVERSAMPLING, POWER_ITERATIONS = 16, 4  # of the randomised SVD (Halko et al. 2011)
EXACT_SIDE = 2048  # the full SVD is quick enough up to this shorter side


@dataclass(frozen=True)
class Reduction:
    """A fit to vectors of width d: their `mean` (d,) float64, and `axes` (rank, d) and `deviation` (rank,) if any."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) `vectors`, not those alone that it was fitted to, as (n, rank) float32."""
        centred: NDArray[np.float32] = (vectors - self.mean).astype(np.float32)
        if self.axes is None:
            return centred
        reduced = centred @ self.axes.T  # (n, d) @ (d, rank)
        if self.deviation is not None:
            wide = self.deviation > 1e-6 * self.deviation.max()
            reduced = np.divide(reduced, self.deviation, out=np.zeros_like(reduced), where=wide)
        return np.ascontiguousarray(reduced, np.float32)


def reduce_dimensions(
    vectors: NDArray[np.float32], dimensions: int, whiten: bool = False, seed: int = 0
) -> NDArray[np.float32]:
    """(n, d) `vectors` by the fit to themselves."""
    return fit_reduction(vectors, dimensions, whiten, seed).apply(vectors)


def fit_reduction(vectors: NDArray[np.float32], dimensions: int, whiten: bool = False, seed: int = 0) -> Reduction:
    """The first `dimensions` principal components of centred (n, d) `vectors`.

    0 keeps all dimensions, unrotated unless `whiten`, which scales each component to unit variance. What is reduced
    has min(dimensions, n, d) columns. `seed` matters only for the randomised SVD of large inputs.
    """
    mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
    if dimensions == 0 and not whiten:
        return Reduction(mean)
    centred: NDArray[np.float32] = (vectors - mean).astype(np.float32)
    rank = min(dimensions or vectors.shape[1], *vectors.shape)
    axes, singular = _right_singular(centred, rank, seed)
    return Reduction(mean, axes, singular / np.sqrt(max(len(vectors) - 1, 1)) if whiten else None)


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
