"""The records and tables of a dataset, as they are now or as they were when a run ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import ConfigError, DataError, StaleArtefactError
from rallrec_pipeline.lake.history import PRUNED, has_history, history_folder, past_records, record_at
from rallrec_pipeline.lake.parquet import scan_table
from rallrec_pipeline.lake.provenance import Sidecar, read_sidecar
from rallrec_pipeline.lake.tables import Table
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES, UNPARTITIONED
from rallrec_pipeline.pipeline.lineage.model import At, Provenance, Step
from rallrec_pipeline.pipeline.stage import plan_stage

NEWEST = 5  # runs that an error names
REMOVED = "not made until then, or rallrec prune has removed its record"
GONE = "its last run was not finished, or its files have gone"


class LakeState:
    """What is known of one dataset; `at` is an earlier moment, None is now."""

    def __init__(self, run: StageRun, at: At | None = None) -> None:
        self.run, self.at = run, at
        self._records: dict[str, Sidecar | None] = {}
        self._stored: dict[str, bool] = {}

    @cached_property
    def now(self) -> LakeState:
        """The state of this moment."""
        return self if self.at is None else LakeState(self.run)

    def record(self, stage: str) -> Sidecar | None:
        """The record of `stage` in force; of a stage whose last run was broken off the one before."""
        if stage not in self._records:
            self._records[stage] = self._find(stage, _partition(stage, self.run.dataset))
        return self._records[stage]

    def is_stored(self, stage: str) -> bool:
        """Whether the files of `stage` hold what its record in force was written for; now whatever is there counts."""
        if stage not in self._stored:
            self._stored[stage] = self._holds(stage)
        return self._stored[stage]

    def read(self, stage: str, table: Table, *wanted: pl.Expr, columns: Sequence[str] = ()) -> pl.DataFrame | None:
        """Rows of a stage's table, all or those that are `wanted`; None where it is not there, or no longer.

        Raises DataError when a file is damaged.
        """
        lake, dataset = self.run.lake, self.run.dataset
        if not self.is_stored(stage) or not table.exists(lake, dataset):
            return None
        try:
            rows = scan_table(table, lake, dataset).filter(*wanted)
            return (rows.select(columns) if columns else rows).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            path = table.file(lake, dataset)
            raise DataError(
                f"{path} is damaged ({reason}): delete it and run `rallrec run {dataset} --select {stage}`"
            ) from error

    def row(self, stage: str, table: Table, item_id: str) -> dict[str, Any] | None:
        """Provenance of an item's row, from the rows of the record, else from the table itself.

        Empty where there is no such row, None where rows are not stored.
        """
        record, wanted = self.record(stage), pl.col("item_id") == item_id
        file = self.run.lake / record.rows_file if record and record.rows_file else None
        if file is not None and file.exists():
            try:
                found = pl.scan_parquet(file).filter(wanted).collect()
                return found.row(0, named=True) if found.height else {}
            except (pl.exceptions.PolarsError, OSError):
                pass  # a damaged one is as good as none
        rows = self.read(stage, table, wanted)  # of a lake from before rows were recorded
        return None if rows is None else rows.row(0, named=True) if rows.height else {}

    def steps(self) -> dict[str, Step]:
        """All stages that lead to an item's vector or to predictions, in the order of the graph."""
        steps: dict[str, Step] = {}
        for stage in GRAPH:
            if stage.name in _chain():
                steps[stage.name] = self._step(stage.name, steps)
        return steps

    def _step(self, name: str, before: dict[str, Step]) -> Step:
        record, reasons = self.record(name), self._reasons(name)
        waits_for = [given for given in STAGES[name].inputs if not before[given].fresh]
        figures = {k: v for k, v in (record.metadata if record else {}).items() if isinstance(v, str | int | float)}
        return Step(
            stage=name,
            run_id=record.run_id if record else None,
            created_at=record.created_at if record else None,
            fingerprint=record.fingerprint if record else None,
            data_version=record.data_version if record else None,
            fresh=not reasons and not waits_for,
            reasons=reasons,
            waits_for=waits_for,
            figures=figures,
        )

    def _reasons(self, name: str) -> list[str]:
        """Why a stage is not fresh."""
        record, dataset = self.record(name), _partition(name, self.run.dataset)
        if record is None:
            pruned = history_folder(self.run.lake, name, dataset) / PRUNED
            return ["never made" if self.at is None else REMOVED if pruned.exists() else "not made until then"]
        current = read_sidecar(self.run.lake, name, dataset)
        if current is None:
            return [GONE]
        if (current.fingerprint, current.data_version) != (record.fingerprint, record.data_version):
            return [f"made again by run {current.run_id} at {current.created_at}"]
        try:
            return plan_stage(STAGES[name], self.run, UNPARTITIONED).reasons
        except StaleArtefactError:  # an input has no record, so the stage waits for it
            return []

    def _find(self, stage: str, dataset: str) -> Sidecar | None:
        lake, at = self.run.lake, self.at
        if at is None:
            return read_sidecar(lake, stage, dataset) or next(past_records(lake, stage, dataset), None)
        if has_history(lake, stage, dataset):
            return record_at(lake, stage, dataset, at.run_id, at.ended_at)
        record = read_sidecar(lake, stage, dataset)  # of a lake from before there was a history
        return record if record and (record.run_id == at.run_id or record.created_at <= at.ended_at) else None

    def _holds(self, stage: str) -> bool:
        record = self.record(stage)
        if record is None or self.at is None:
            return record is not None
        if record.is_whole(self.run.lake):
            return True
        current = read_sidecar(self.run.lake, stage, _partition(stage, self.run.dataset))
        same = current is not None and current.data_version == record.data_version
        return bool(same and current and current.is_whole(self.run.lake))


def find_moment(lake: Path, dataset: str, asked: str) -> At:
    """When the run `asked` (its id, or the first characters of it) wrote its last record of `dataset`.

    Raises ConfigError that lists the newest known runs.
    """
    ended: dict[str, str] = {}
    for record in _all_records(lake, dataset):
        ended[record.run_id] = max(record.created_at, ended.get(record.run_id, ""))
    fitting = [run_id for run_id in ended if run_id == asked] or [i for i in ended if asked and i.startswith(asked)]
    if len(fitting) == 1:
        return At(fitting[0], ended[fitting[0]])
    newest = sorted(ended, key=lambda run_id: ended[run_id], reverse=True)[:NEWEST]
    known = ", ".join(f"{run_id} ({ended[run_id]})" for run_id in newest)
    if not known:
        raise ConfigError(f"no run has made anything of {dataset!r}: run `rallrec run {dataset}`")
    what = "several runs begin with" if fitting else "no record is of a run"
    raise ConfigError(f"{what} {asked!r}: the newest of {dataset!r} are {known}")


def provenance_of(row: dict[str, Any] | None) -> Provenance:
    """The columns of a row that say what made it."""
    found = row or {}
    return Provenance(**{part.name: found.get(part.name) or None for part in fields(Provenance)})


def gone(state: LakeState, stage: str, what: str) -> list[str]:
    """The note that `what` cannot be read, where `stage` was made; to be asked only when it could not."""
    if state.record(stage) is None:
        return []
    why = "was made again since" if state.at else "has lost its files"
    return [f"{what}: not stored any more, {stage} {why}"]


def _partition(stage: str, dataset: str) -> str:
    return SHARED if stage in UNPARTITIONED else dataset


def _all_records(lake: Path, dataset: str) -> Iterator[Sidecar]:
    for name in STAGES:
        partition = _partition(name, dataset)
        yield from past_records(lake, name, partition)
        if (record := read_sidecar(lake, name, partition)) is not None:
            yield record


@cache
def _chain() -> frozenset[str]:
    return frozenset(_upstream(("item_index", "predictions", "baseline_predictions")))


def _upstream(names: Iterable[str]) -> set[str]:
    found = set(names)
    for name in tuple(found):
        found |= _upstream(STAGES[name].inputs)
    return found
