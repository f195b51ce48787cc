"""What every stage is given and what it gives back. Knows nothing of Dagster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.history import latest_rows
from rallrec_pipeline.lake.parquet import read_table, write_table
from rallrec_pipeline.lake.tables import Table
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import SeedSettings, Settings

SHARED = "_shared"  # stands for the partition in the records of unpartitioned assets


@dataclass(frozen=True)
class Markdown:
    """A metadata value that the UI renders (tables, pictures)."""

    text: str


@dataclass(frozen=True)
class Made:
    """What a stage wrote: its files or folders, and what is worth knowing about them.

    `rows` is the provenance of each row, one per `item_id` (of predictions, one per method and `sample_id`). `version`
    is the hash of the content, for files that hold more than content (run ids, times); without it their bytes are
    hashed.
    """

    files: list[Path]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rows: pl.DataFrame | None = None
    version: str | None = None


@dataclass(frozen=True)
class StageRun:
    """One stage of one dataset: where to read and write, with which settings."""

    lake: Path
    dataset: str
    settings: Settings
    run_id: str
    log: Callable[[str], None]
    progress: Callable[[str], Progress]
    """`progress("what")` is called with (done, total) as work goes on."""
    fingerprint: str = ""
    """Hash of everything that the stage at work depends on."""

    @cached_property
    def spec(self) -> DatasetSpec:
        """The dataset's TOML under the profile's protocol."""
        return get_dataset(self.dataset, self.lake, self.settings.protocol)

    @property
    def seeds(self) -> SeedSettings:
        """The four seeds of everything random."""
        return self.settings.seeds

    def read(self, table: Table) -> pl.DataFrame:
        """A table of this dataset."""
        return read_table(table, self.lake, self.dataset)

    def previous_rows(self, stage: str) -> pl.DataFrame | None:
        """Per-row provenance of the last finished run of `stage`, if there was one."""
        return latest_rows(self.lake, stage, self.dataset)

    def write(self, frame: pl.DataFrame, table: Table, **metadata: Any) -> Made:
        """Write a table of this dataset."""
        return Made([write_table(frame, table, self.lake, self.dataset)], {"rows": frame.height, **metadata})


Compute = Callable[[StageRun], Made]
