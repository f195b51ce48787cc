"""Update of the item index against building it anew, and what an approximate index finds.

    python benchmarks/index.py                  200,000 items, of which 1% change
    python benchmarks/index.py --items 20000

Vectors are made up: items of 500 topics, 192 dimensions that matter less and less, rows of length 1. Both sides give
the index of the changed vectors and write it; the update has to read the old one first. One thread builds and updates.
Prints one JSON line a figure; the rest goes to stderr.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from rows import print_row

from rallrec_pipeline.retrieval.index import build_index, load_index, recall, sampled_rows, search, write_index
from rallrec_pipeline.retrieval.index_update import refresh_index
from rallrec_pipeline.settings import IndexSettings

DIMENSIONS, TOPICS, SEED = 192, 500, 2025
CHANGED = 0.01
UPDATE_TARGET, FLAT_TARGET = 3.0, 1.0
Vectors = NDArray[np.float32]


def main() -> None:
    """Measure both kinds and print the figures."""
    parser = argparse.ArgumentParser(description="Update of the item index against building it anew.")
    parser.add_argument("--items", type=int, default=200_000)
    items = parser.parse_args().items
    rng = np.random.default_rng(SEED)
    vectors = made_up(items, rng)
    rows = np.sort(rng.choice(items, round(CHANGED * items), replace=False))
    changed = vectors.copy()
    changed[rows] = made_up(len(rows), rng)
    names = [str(row) for row in range(items)]
    with TemporaryDirectory() as folder:
        flat(Path(folder) / "flat.faiss", names, vectors, changed, rows)
        approximate(Path(folder) / "ivf.faiss", names, vectors, changed)


def flat(path: Path, names: list[str], vectors: Vectors, changed: Vectors, rows: NDArray[np.int64]) -> None:
    """Ours builds an exact index anew; the peer reads the old one, removes the changed rows and adds them."""
    write_index(build_index(vectors), names, path)
    # Removing moves the rows behind up, so the peer's come out in another order, which costs it nothing.
    order = [*np.delete(names, rows).tolist(), *np.array(names)[rows].tolist()]

    def update() -> None:
        index = load_index(path)
        index.remove_ids(faiss.IDSelectorBatch(rows))
        index.add(changed[rows])
        write_index(index, order, path)

    peer = timed(update)
    ours = timed(lambda: write_index(build_index(changed), names, path))
    print_row(
        f"exact index, {shown(names)}: build", "s", ours, peer, "read, remove, add", FLAT_TARGET, faster_is_less=True
    )


def approximate(path: Path, names: list[str], vectors: Vectors, changed: Vectors) -> None:
    """Ours updates an approximate index; the peer builds it anew."""
    settings = IndexSettings(kind="ivf")
    write_index(build_index(vectors, settings, SEED), names, path)

    def update() -> None:
        fresh = refresh_index(path, changed, settings, SEED)
        if fresh.work != "updated":
            raise SystemExit(f"the index was {fresh.work} ({fresh.why}): the comparison is void")
        write_index(fresh.index, names, path)

    ours = timed(update)
    updated = load_index(path)
    peer = timed(lambda: write_index(build_index(changed, settings, SEED), names, path))
    print_row(
        f"approximate index, {shown(names)}: update", "s", ours, peer, "build", UPDATE_TARGET, faster_is_less=True
    )
    queries = sampled_rows(len(changed), SEED)
    exact = build_index(changed)
    for name, index in {"updated": updated, "built": load_index(path), "exact": exact}.items():
        found, taken = recall(index, changed, queries), timed(partial(search, index, changed[queries], 10))
        milliseconds = 1000 * taken / len(queries)
        print(f"{name}: recall@10 {found:.3f}, {milliseconds:.2f} ms a query", file=sys.stderr)


def made_up(n: int, rng: np.random.Generator) -> Vectors:
    """(n, DIMENSIONS) unit rows around TOPICS centres, which are the same in every call."""
    weights = (1 + np.arange(DIMENSIONS)) ** -0.5
    centres = np.random.default_rng(SEED).normal(size=(TOPICS, DIMENSIONS))
    vectors = (centres[rng.integers(TOPICS, size=n)] + rng.normal(size=(n, DIMENSIONS))) * weights
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def timed(job: Callable[[], Any]) -> float:
    """Seconds that `job` takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def shown(names: list[str]) -> str:
    """The size of the job in words."""
    return f"{len(names):,} × {DIMENSIONS}, {CHANGED:.0%} changed"


if __name__ == "__main__":
    main()
