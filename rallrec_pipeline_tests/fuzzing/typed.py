"""Let Polars read many files with a byte or two changed: `python -m rallrec_pipeline_tests.fuzzing.typed parquet 3000`.

What it cannot survive ends this process, so a test runs it as one of its own.
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from rallrec_pipeline.datasets.endings import Format
from rallrec_pipeline.datasets.frames import open_frame
from rallrec_pipeline.errors import DataError
from rallrec_pipeline_tests.fuzzing.targets import TARGETS

TOLD = (DataError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)


def flipped(data: bytes, seed: int) -> bytes:
    """`data` with one or two bytes changed, to extremes as often as to any."""
    rng, changed = random.Random(seed), bytearray(data)
    for _ in range(rng.randint(1, 2)):
        changed[rng.randrange(len(changed))] = rng.choice((*EXTREMES, *rng.sample(range(256), len(EXTREMES))))
    return bytes(changed)


def main(kind: Format, count: int) -> None:
    """Read `count` mutants of a file of the `kind`."""
    (sound,) = TARGETS[kind].seeds()
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"ratings.{kind}"
        for seed in range(count):
            path.write_bytes(flipped(sound, seed))
            with suppress(*TOLD), open_frame(path, kind) as frame:
                frame.collect()


if __name__ == "__main__":
    main("arrow" if sys.argv[1] == "arrow" else "parquet", int(sys.argv[2]))
