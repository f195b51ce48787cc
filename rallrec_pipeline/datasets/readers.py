"""Raw files to tables: the reader of each format, behind one function."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline.datasets.atomic import read_atomic
from rallrec_pipeline.datasets.catalog import DatasetSpec
from rallrec_pipeline.datasets.tables import RawTables
from rallrec_pipeline.errors import DataError

READERS = {"atomic": read_atomic}


def read_raw(spec: DatasetSpec, lake: Path) -> RawTables:
    """The four tables of a dataset from its raw files. Raises DataError when a file is missing or no table."""
    folder = raw_folder(lake, spec.name)
    missing = [file.name for file in spec.source.files if not (folder / file.name).exists()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}: run `rallrec run {spec.name} --select raw_files`")
    return READERS[spec.reader.kind](spec, folder)


def raw_folder(lake: Path, dataset: str) -> Path:
    """Where the raw files of a dataset lie."""
    return lake / "raw" / dataset
