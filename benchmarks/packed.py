"""Reading ratings out of packed files: against the same file as it is.

Made-up ratings in MovieLens-1M's layout, read into the table `interactions`. Both sides are the project's own reader:
the peer is the plain file, so a ratio of 0.667 says that a packed file takes 1.5 times as long. Of RUNS runs the
fastest counts, and the sides take turns. Prints one JSON line a packing.
"""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa  # type: ignore[import-untyped]
from generate import shape_of, write_dataset
from rows import print_row

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.readers import raw_folder, read_interactions
from rallrec_pipeline.datasets.spec import DatasetSpec

NAME, SIZE, RUNS, TARGET = "movielens-1m", "2.5", 4, 1 / 1.5
PACKINGS = ("gz", "zst")


def main() -> None:
    """Time all sides in turn and print the rows."""
    with TemporaryDirectory() as scratch:
        lake = Path(scratch)
        spec = get_dataset(NAME, lake, "five_core")
        write_dataset(shape_of(SIZE), raw_folder(lake, NAME))
        sides = {"": spec} | {packing: packed(spec, lake, packing) for packing in PACKINGS}
        best = dict.fromkeys(sides, float("inf"))
        for _ in range(RUNS):
            for side, own in sides.items():
                start = time.perf_counter()
                read_interactions(own, lake)
                best[side] = min(best[side], time.perf_counter() - start)
    for packing in PACKINGS:
        name, peer = f"reading {SIZE}M ratings, .{packing}", "the same file, plain"
        notes = {"cores": len(os.sched_getaffinity(0))}
        print_row(name, "s", best[packing], best[""], peer, TARGET, faster_is_less=True, notes=notes)


def packed(spec: DatasetSpec, lake: Path, packing: str) -> DatasetSpec:
    """The dataset with its ratings packed, beside the plain ones."""
    plain = raw_folder(lake, NAME) / spec.interactions.file
    target = plain.with_name(f"{plain.name}.{packing}")
    content = plain.read_bytes()
    target.write_bytes(gzip.compress(content, 6) if packing == "gz" else pa.compress(content, "zstd", asbytes=True))
    return spec.model_copy(update={"interactions": spec.interactions.model_copy(update={"file": target.name})})


if __name__ == "__main__":
    main()
