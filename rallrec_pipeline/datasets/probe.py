"""Parquet and Arrow files from elsewhere, decoded once by pyarrow before Polars is let near them.

A changed byte in such a file makes Polars ask for exabytes of memory, which ends the process without a word (one mutant
in two thousand). Arrow's own readers tell of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]

from rallrec_pipeline.datasets.endings import Format

ROWS = 1 << 16  # held at once


def require_decodable(path: Path, kind: Format) -> None:
    """Raise OSError or ValueError where a file is no `kind` ("parquet" or "arrow").

    A sound one is read once, if it is not packed.
    """
    found = os.stat(path)
    _decode(path, kind, found.st_size, found.st_mtime_ns, found.st_ino)


@cache
def _decode(path: Path, kind: Format, *state: int) -> None:
    try:
        for batch in _of_parquet(path) if kind == "parquet" else _of_arrow(path):
            batch.validate(full=True)
    except pa.ArrowNotImplementedError as error:
        raise ValueError(f"a column has a type that is not read ({error}): store a plain number or text") from error
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _of_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # not where this module loads

    with pq.ParquetFile(path, memory_map=True) as file:
        yield from file.iter_batches(ROWS)


def _of_arrow(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(os.fspath(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)
