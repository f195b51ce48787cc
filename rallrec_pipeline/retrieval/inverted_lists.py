"""What lies in the inverted lists of an IVF index: ids, and vectors by their digests.

FAISS moves the last entry of a list into the place of a removed one, so entries have no order worth keeping. They are
found by id here; ids are always the rows 0 to n-1 of some list of items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import faiss

DIGEST_BYTES = 16  # 128 bits: among millions of vectors no two different ones share a digest


def has_lists(index: faiss.Index) -> TypeGuard[faiss.IndexIVFFlat]:
    """Whether `index` is an IVF index with whole vectors, the only approximate kind that is built here."""
    import faiss

    return isinstance(index, faiss.IndexIVFFlat)


def ids_are_rows(index: faiss.IndexIVFFlat) -> bool:
    """Whether the ids are exactly 0 to `ntotal` - 1, each once; in a damaged file they need not be."""
    ids = np.concatenate([ids for ids, _ in _lists(index)])
    return len(ids) == index.ntotal and np.array_equal(np.sort(ids), np.arange(len(ids)))


def stored_digests(index: faiss.IndexIVFFlat) -> list[bytes]:
    """Digest of the vector of each id, in the order of ids."""
    digests = [b""] * index.ntotal
    for ids, codes in _lists(index):
        for item, digest in zip(ids.tolist(), _digests(codes), strict=True):
            digests[item] = digest
    return digests


def vector_digests(vectors: NDArray[np.float32]) -> list[bytes]:
    """Digest of each row of (n, d) `vectors`."""
    return _digests(np.ascontiguousarray(vectors, np.float32).view(np.uint8))


def renumber(index: faiss.IndexIVFFlat, new_ids: NDArray[np.int64]) -> None:
    """Give id `new_ids[i]` to the entry with id i, in place."""
    for ids, _ in _lists(index):
        ids[:] = new_ids[ids]


def _digests(rows: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in rows]


def _lists(index: faiss.IndexIVFFlat) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Ids (m,) and bytes of the vectors (m, 4 d) of each list, as views into the index."""
    import faiss

    lists = index.invlists
    assert lists is not None
    for number in range(index.nlist):
        size = lists.list_size(number)
        if size == 0:  # FAISS gives no address then
            yield np.empty(0, np.int64), np.empty((0, index.code_size), np.uint8)
            continue
        codes = faiss.rev_swig_ptr(lists.get_codes(number), size * index.code_size)
        yield faiss.rev_swig_ptr(lists.get_ids(number), size), codes.reshape(size, index.code_size)
