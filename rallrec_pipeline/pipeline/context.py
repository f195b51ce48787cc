"""What every stage is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import Kind
from rallrec_pipeline.lake.parquet import read_table, scan_table, write_table
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.lake.tables import Table
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import Role, SeedSettings, Settings

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
    """One stage of one dataset: what it may read, which settings it may see, where it writes.

    A check, a status or a lineage is given the same, with `inputs` that it may look at and nowhere to write.
    """

    lake: Path
    """For what is fetched (raw files, models) and for finished rows; results are read from `inputs`."""
    dataset: str
    settings: Settings
    run_id: str
    log: Callable[[str], None]
    progress: Callable[[str], Progress]
    """`progress("what")` is called with (done, total) as work goes on."""
    inputs: Mapping[str, Record] = field(default_factory=dict)
    """The results that may be read, by stage."""
    out: Path = Path()
    """The folder that takes what is made, under the paths of the contract."""
    fingerprint: str = ""
    """Hash of everything that the stage at work depends on."""
    previous: Record | None = None
    """The stage's result that was in force before, where it is as it was written."""
    damaged: Sequence[Path] = ()
    """Files of the stage's result whose bytes have changed by themselves: what is fetched is fetched anew."""
    role: Role = "predictor"
    """The role of the model at work; `settings.model` is that model."""
    publish: bool = True
    """Whether the paths of the contract lead to what is made; a study leaves them as they are."""

    @cached_property
    def spec(self) -> DatasetSpec:
        """The dataset's TOML under the profile's protocol."""
        return get_dataset(self.dataset, self.lake, self.settings.protocol)

    @property
    def seeds(self) -> SeedSettings:
        """The four seeds of everything random."""
        return self.settings.seeds

    def root(self, table: Table) -> Path:
        """The folder of the input that `table` lies in. Raises StaleArtefactError when no input has it."""
        roots = (record.folder(self.lake) for record in self.inputs.values())
        found = next((root for root in roots if table.exists(root, self.dataset)), None)
        if found is None:
            raise StaleArtefactError(
                f"{table.name} of {self.dataset!r} is missing: run `rallrec run {self.dataset} --select {table.stage}` "
                "first"
            )
        return found

    def has(self, table: Table) -> bool:
        """Whether an input has `table`."""
        return any(table.exists(record.folder(self.lake), self.dataset) for record in self.inputs.values())

    def read(self, table: Table) -> pl.DataFrame:
        """A table of the inputs. Raises StaleArtefactError when there is none, DataError when it is damaged."""
        return read_table(table, self.root(table), self.dataset)

    def scan(self, table: Table) -> pl.LazyFrame:
        """A table of the inputs, lazily."""
        return scan_table(table, self.root(table), self.dataset)

    def given(self, stage: str) -> Record:
        """The record of an input. Raises StaleArtefactError when it was never made."""
        if stage not in self.inputs:
            raise StaleArtefactError(f"{stage} was never made: run `rallrec run {self.dataset} --select {stage}` first")
        return self.inputs[stage]

    def folder(self, stage: str) -> Path:
        """The folder of an input; paths of the contract begin there."""
        return self.given(stage).folder(self.lake)

    @property
    def previous_folder(self) -> Path | None:
        """The folder of the stage's result before, from which unchanged parts may be taken over."""
        return self.previous.folder(self.lake) if self.previous is not None else None

    def previous_rows(self) -> pl.DataFrame | None:
        """Per-row provenance of the stage's result before."""
        return self.previous.rows(self.lake) if self.previous is not None else None

    def in_role(self, role: Role) -> StageRun:
        """This run with the model of `role` as `settings.model`."""
        return replace(self, role=role, settings=self.settings.in_role(role))

    @property
    def model_record(self) -> Record:
        """The record of the model at work. Raises StaleArtefactError when it was never fetched."""
        return self.given(self.role)

    def memo(self, kind: Kind) -> Memo:
        """The finished rows of a kind, mended if the file is damaged: what cannot be saved is made anew."""
        memo = Memo(self.lake, kind, self.log)
        memo.mend()
        return memo

    def write(self, frame: pl.DataFrame, table: Table, **metadata: Any) -> Made:
        """Write a table of this dataset."""
        path = write_table(frame, table, self.out, self.dataset, self.previous_folder)
        return Made([path], {"rows": frame.height, **metadata})


Compute = Callable[[StageRun], Made]
