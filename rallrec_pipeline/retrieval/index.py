"""FAISS inner-product index over items; the ids in it are rows of `core_items`.

A flat index is exact: a query looks at every item. An IVF index is approximate: k-means cuts the items into lists, and
a query looks at those whose centres are nearest. Which one is built is a setting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError, StaleArtefactError
from rallrec_pipeline.lake.files import atomic_path, read_json, write_json
from rallrec_pipeline.lake.sound import require_sound
from rallrec_pipeline.retrieval.inverted_lists import has_lists, ids_are_rows
from rallrec_pipeline.settings import IndexSettings

if TYPE_CHECKING:
    import faiss

Neighbours = tuple[NDArray[np.int64], NDArray[np.float32]]


EXACT = IndexSettings(kind="flat")
MIN_RECALL, RECALL_AT = 0.9, 10  # an approximate index must find this share of this many neighbours
SAMPLED_QUERIES = 64
TRAINING_VECTORS_A_LIST = 64  # k-means sees at most so many: the time of training grows as n rather than as n^1.5
LISTS_A_ROOT = 4  # FAISS's rule of thumb: 4 to 16 times the square root of n


def build_index(vectors: NDArray[np.float32], settings: IndexSettings = EXACT, seed: int = 0) -> faiss.Index:
    """Index of (n_items, d) `vectors`, of the kind that `settings` ask for; equal input gives equal bytes.

    Raises DataError when a vector is not finite.
    """
    import faiss

    require_finite(vectors)
    n, d = vectors.shape
    if not is_approximate(settings, n):
        flat = faiss.IndexFlatIP(d)
        flat.add(_rows(vectors))
        return flat
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, number_of_lists(n), faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed % 2**31
    index.cp.max_points_per_centroid = TRAINING_VECTORS_A_LIST  # a sample drawn with the seed
    index.cp.min_points_per_centroid = 1  # no warning about a small catalogue
    index.nprobe = settings.probes
    with one_thread():
        index.train(_rows(vectors))
        index.add(_rows(vectors))
    return index


def is_approximate(settings: IndexSettings, n_items: int) -> bool:
    """Whether `settings` ask for an IVF index of `n_items` vectors; without any there is nothing to train on."""
    return n_items > 0 and (settings.kind == "ivf" or (settings.kind == "auto" and n_items > settings.flat_items))


def number_of_lists(n_items: int) -> int:
    """Lists of an IVF index of `n_items` vectors."""
    return max(1, min(n_items, round(LISTS_A_ROOT * math.sqrt(n_items))))


def require_finite(vectors: NDArray[np.float32]) -> None:
    """Raises DataError when a row of `vectors` is not finite."""
    if bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        raise DataError(
            f"item index: {len(bad)} vectors are not finite (first row {bad[0]}): make the embeddings again"
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """FAISS works in one thread, so that sums are rounded alike whatever the number of cores."""
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def write_index(index: faiss.Index, item_ids: Sequence[str], path: Path) -> list[Path]:
    """Store the index at `path` and `item_ids`, by row, beside it as `.json`.

    The old `.json` goes before the new index comes, and the new one comes last: an index never lies beside the ids of
    another, whenever the process is killed.
    """
    import faiss

    if index.ntotal != len(item_ids):
        raise DataError(f"item index {path}: {index.ntotal} vectors for {len(item_ids)} items; make both again")
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))
        _names(path).unlink(missing_ok=True)
    return [path, write_item_ids(item_ids, path)]


def write_item_ids(item_ids: Sequence[str], path: Path) -> Path:
    """Store `item_ids`, by row, beside the index at `path` that they belong to."""
    write_json(_names(path), list(item_ids))
    return _names(path)


def read_index(path: Path) -> tuple[faiss.Index, list[str]]:
    """The index and the item ids of its rows. Raises StaleArtefactError when one is absent, DataError when broken."""
    if not path.exists() or not _names(path).exists():
        raise StaleArtefactError(
            f"the item index {path} is missing or unfinished: run the pipeline with `--select item_index` first"
        )
    require_sound([_names(path)])
    item_ids = read_json(_names(path))
    index = load_index(path)
    # The second look: a run may have replaced both files since the first.
    if not isinstance(item_ids, list) or len(item_ids) != index.ntotal or read_json(_names(path)) != item_ids:
        raise DataError(f"item index {path} and its .json disagree: delete both and run `--select item_index`")
    return index, [str(item) for item in item_ids]


def load_index(path: Path) -> faiss.Index:
    """The index alone. Raises DataError when it is absent or damaged."""
    import faiss

    if path.exists():
        require_sound([path])
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:  # a damaged length may ask for any amount of memory
        raise DataError(f"cannot read the item index {path}: delete it and run `--select item_index`") from error
    if has_lists(index) and not ids_are_rows(index):
        raise DataError(f"the item index {path} is damaged: delete it and run `--select item_index`")
    return index


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


def sampled_rows(n_items: int, seed: int) -> NDArray[np.int64]:
    """Rows whose vectors serve as queries when an index is judged."""
    return np.random.default_rng(seed).choice(n_items, min(SAMPLED_QUERIES, n_items), replace=False)


def recall(index: faiss.Index, vectors: NDArray[np.float32], rows: NDArray[np.int64], k: int = RECALL_AT) -> float:
    """Share of the `k` items nearest to each of `rows`, itself left out, that the index finds.

    An item that is as near as the k-th counts as found, so equals may stand for one another. 0 when the index holds
    another number of items or dimensions, 1 when there is no neighbour to find.
    """
    if (index.ntotal, index.d) != vectors.shape:
        return 0.0
    k = min(k, len(vectors) - 1)
    if k < 1 or not len(rows):
        return 1.0
    every = vectors[rows] @ vectors.T  # (m, n_items)
    every[np.arange(len(rows)), rows] = -np.inf
    kth = np.partition(every, -k, axis=1)[:, -k, None]
    positions, _ = nearest_items(index, vectors[rows], k, exclude=rows)
    scores = np.take_along_axis(every, np.maximum(positions, 0), axis=1)
    return float(((positions >= 0) & (scores >= kth - 1e-5 * np.abs(kth))).mean())


def _names(path: Path) -> Path:
    return path.with_suffix(".json")


def _rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, np.float32)
