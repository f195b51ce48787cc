"""The raw files of a dataset: fetched into `raw/<dataset>/`, and watched where they come from."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.files import file_states
from rallrec_pipeline.sources.collect import collect
from rallrec_pipeline.sources.source import Downloads, silent


def fetch_raw_files(
    spec: DatasetSpec, lake: Path, downloads: Downloads = silent, damaged: Collection[str] = ()
) -> list[Path]:
    """The raw files under `raw/<dataset>/`, fetched where they are not there yet or have changed: see `collect`."""
    return collect(spec.origin, raw_folder(lake, spec.name), lake, downloads, damaged)


def source_state(spec: DatasetSpec) -> list[list[object]]:
    """Size and time of each local file, so that an edited one is noticed; empty for sources elsewhere."""
    return file_states(spec.origin.local_files)


def watched_files(spec: DatasetSpec, lake: Path) -> list[Path]:
    """The files of a local source, else those under `raw/<dataset>/`."""
    return spec.origin.local_files or [raw_folder(lake, spec.name) / file.name for file in spec.files]
