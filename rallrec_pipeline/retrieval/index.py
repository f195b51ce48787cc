"""FAISS inner-product index over items; the ids in it are rows of `core_items`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path, read_json, write_json

if TYPE_CHECKING:
    import faiss

Neighbours = tuple[NDArray[np.int64], NDArray[np.float32]]


def build_index(vectors: NDArray[np.float32]) -> faiss.Index:
    """Exact index of (n_items, d) `vectors`. Raises DataError when one is not finite."""
    import faiss

    if bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        raise DataError(
            f"item index: {len(bad)} vectors are not finite (first row {bad[0]}): make the embeddings again"
        )
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(_rows(vectors))
    return index


def write_index(index: faiss.Index, item_ids: Sequence[str], path: Path) -> list[Path]:
    """Store the index at `path` and `item_ids`, in index order, beside it as `.json`; each atomically."""
    import faiss

    if index.ntotal != len(item_ids):
        raise DataError(f"item index {path}: {index.ntotal} vectors for {len(item_ids)} items; make both again")
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))
    names = path.with_suffix(".json")
    write_json(names, list(item_ids))
    return [path, names]


def read_index(path: Path) -> tuple[faiss.Index, list[str]]:
    """The index and its item ids. Raises StaleArtefactError when absent, DataError when broken."""
    import faiss

    if not path.exists():
        raise StaleArtefactError(f"the item index {path} is missing: run the pipeline with `--select item_index` first")
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise DataError(f"cannot read the item index {path}: delete it and run `--select item_index`") from error
    item_ids = read_json(path.with_suffix(".json"))
    if not isinstance(item_ids, list) or len(item_ids) != index.ntotal:
        raise DataError(f"item index {path} and its .json disagree: delete both and run `--select item_index`")
    return index, [str(item) for item in item_ids]


def search(index: faiss.Index, queries: NDArray[np.float32], k: int) -> Neighbours:
    """Rows and inner products (m, k) of the items nearest to `queries` (m, d); row -1, score 0 beyond the last."""
    if queries.shape[1] != index.d:
        raise DataError(f"item index: queries have {queries.shape[1]} dimensions, the index {index.d}: make it again")
    scores, positions = index.search(_rows(queries), k)
    return positions, np.where(positions < 0, 0, scores).astype(np.float32)


def nearest_items(
    index: faiss.Index, queries: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None = None
) -> Neighbours:
    """`search`, without row `exclude[i]` in the answer to query i: (m, k) rows and inner products."""
    if exclude is None:
        return search(index, queries, k)
    positions, scores = search(index, queries, k + 1)
    excluded = positions == np.asarray(exclude)[:, None]
    order = np.argsort(excluded, axis=1, kind="stable")[:, :k]
    positions = np.where(excluded, -1, positions)
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(scores, order, axis=1)


def max_disagreement_with_brute_force(
    index: faiss.Index, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> float:
    """Largest difference between the index's top `k` and that of all dot products in float64; 0 is perfect.

    Both the reported scores and the true scores of the reported rows are compared, rank by rank, so that the
    order among equals does not matter. Infinite when the index holds another number of items or dimensions.
    """
    if (index.ntotal, index.d) != vectors.shape:
        return float("inf")
    k = min(k, len(vectors))
    every = queries.astype(np.float64) @ vectors.T.astype(np.float64)  # (m, n_items)
    best = -np.sort(-every, axis=1)[:, :k]
    positions, scores = search(index, queries, k)
    true = np.take_along_axis(every, positions, axis=1)
    return float(max(np.abs(scores - best).max(initial=0), np.abs(true - best).max(initial=0)))


def _rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, np.float32)
