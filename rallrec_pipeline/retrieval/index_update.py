"""Bring the stored item index up to date: by removing and adding rows where that is faster than building it.

A flat index is always built: that is a copy of the vectors, and an update would have to read the old copy first. Of an
IVF index the training is dear, so rows are removed and added while the lists still fit.

A row is kept when its vector is still wanted, whatever item it was of; a changed item is one row removed and one added.
So the stored index alone says what is in it. An updated index finds about what a built one finds, but its bytes differ:
lists and order are the old ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.retrieval.index import (
    MIN_RECALL,
    build_index,
    is_approximate,
    load_index,
    number_of_lists,
    one_thread,
    recall,
    require_finite,
    sampled_rows,
)
from rallrec_pipeline.retrieval.inverted_lists import has_lists, renumber, stored_digests, vector_digests
from rallrec_pipeline.settings import IndexSettings

if TYPE_CHECKING:
    import faiss

# Training is for the vectors there were. A fifth of others still falls into lists that fit; how well is measured.
MAX_CHANGED = 0.2
# Lists are chosen for a number of items. With four times or a quarter of it, another number of lists is due.
MAX_LISTS_RATIO = 2.0


@dataclass(frozen=True)
class Refreshed:
    """An index that is up to date, how it came about and why so, and its rows added, removed and kept."""

    index: faiss.Index
    work: Literal["built", "updated", "unchanged"]
    why: str
    added: int
    removed: int
    kept: int


@dataclass(frozen=True)
class Difference:
    """What separates a stored index from the vectors that are wanted.

    `new_rows[i]` is the row that the stored row i becomes, -1 when its vector is gone; `added` are the wanted rows
    that are not stored.
    """

    new_rows: NDArray[np.int64]
    added: NDArray[np.int64]

    @property
    def removed(self) -> NDArray[np.int64]:
        """Stored rows whose vectors are gone."""
        return np.flatnonzero(self.new_rows < 0)

    @property
    def is_none(self) -> bool:
        """Whether the stored rows are the wanted ones, in their order."""
        return not len(self.added) and np.array_equal(self.new_rows, np.arange(len(self.new_rows)))


def refresh_index(path: Path | None, vectors: NDArray[np.float32], settings: IndexSettings, seed: int) -> Refreshed:
    """The index of (n_items, d) `vectors`, made from an old one stored at `path` where that is faster. Writes nothing.

    Equal vectors, settings, seed and stored file give equal bytes. Raises DataError when a vector is not finite.
    """
    require_finite(vectors)

    def built(why: str, removed: int = 0) -> Refreshed:
        return Refreshed(build_index(vectors, settings, seed), "built", why, len(vectors), removed, 0)

    if not is_approximate(settings, len(vectors)):
        return built("an exact index is always built")
    if path is None or not path.exists():
        return built("there is no old one")
    try:
        old = load_index(path)
    except DataError:
        return built("the old one is damaged")
    if not has_lists(old):
        return built("the old one is of another kind", old.ntotal)
    if reason := _unfit(old, vectors):
        return built(reason, old.ntotal)
    before, difference = old.ntotal, compare(old, vectors)
    added, removed = len(difference.added), len(difference.removed)
    if max(added, removed) > MAX_CHANGED * before:
        return built(f"{added:,} rows are new and {removed:,} gone, of {before:,}", before)
    if difference.is_none and old.nprobe == settings.probes:
        return Refreshed(old, "unchanged", "the old one holds the same rows", 0, 0, before)
    update_index(old, vectors, difference)
    old.nprobe = settings.probes
    found = recall(old, vectors, sampled_rows(len(vectors), seed))
    if found < MIN_RECALL:
        return built(f"after an update it would find {found:.0%} of the nearest", before)
    return Refreshed(old, "updated", "few rows changed", added, removed, before - removed)


def compare(index: faiss.IndexIVFFlat, vectors: NDArray[np.float32]) -> Difference:
    """Match the rows of `index` with those of (n, d) `vectors` by their bytes, each row once."""
    rows_of: dict[bytes, list[int]] = {}
    for row, digest in reversed(list(enumerate(vector_digests(vectors)))):
        rows_of.setdefault(digest, []).append(row)  # the smallest row of equal vectors comes last, and is taken first
    new_rows = np.array([rows.pop() if (rows := rows_of.get(d)) else -1 for d in stored_digests(index)], np.int64)
    added = np.ones(len(vectors), bool)
    added[new_rows[new_rows >= 0]] = False
    return Difference(new_rows, np.flatnonzero(added))


def update_index(index: faiss.IndexIVFFlat, vectors: NDArray[np.float32], difference: Difference) -> None:
    """Make `index` hold (n, d) `vectors` by row, in place, without training."""
    import faiss

    index.remove_ids(faiss.IDSelectorBatch(difference.removed))
    renumber(index, difference.new_rows)
    with one_thread():
        index.add_with_ids(np.ascontiguousarray(vectors[difference.added], np.float32), difference.added)


def _unfit(old: faiss.IndexIVFFlat, vectors: NDArray[np.float32]) -> str | None:
    """Why the lists of `old` cannot serve `vectors`, or None."""
    if old.d != vectors.shape[1]:
        return f"the old one has {old.d} dimensions"
    ratio = old.nlist / number_of_lists(len(vectors))
    if not 1 / MAX_LISTS_RATIO <= ratio <= MAX_LISTS_RATIO:
        return f"the old one has {old.nlist:,} lists"
    return None
