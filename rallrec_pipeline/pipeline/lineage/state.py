"""The records and tables of a dataset, as they are now or as they were when a run ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from rallrec_pipeline.errors import ConfigError, DataError
from rallrec_pipeline.lake.parquet import scan_table
from rallrec_pipeline.lake.store import Record, Ref, past_refs, record_of
from rallrec_pipeline.lake.tables import Table
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline.pipeline.lineage.model import At, Provenance, Step
from rallrec_pipeline.pipeline.stage import plan_stages, upstream

PREDICTORS = ("predictions", "baseline_predictions", "expert_predictions")
ON_REQUEST_PREDICTORS = ("reasoned_predictions", "merged_predictions")
"""Stages that score samples; the second kind is told of where it was made."""
RECOMMENDING = "recommendations"
NEWEST = 5  # runs that an error names
REMOVED = "rallrec prune has removed it"


class LakeState:
    """What is known of one dataset; `at` is an earlier moment, None is now."""

    def __init__(self, run: StageRun, at: At | None = None) -> None:
        self.run, self.at = run, at
        self.plans = plan_stages(run, EVERY_STAGE)
        self._ref = _ref_of(run, at) if at is not None else None
        self._records: dict[str, Record | None] = {}

    @cached_property
    def now(self) -> LakeState:
        """The state of this moment."""
        return self if self.at is None else LakeState(self.run)

    def record(self, stage: str) -> Record | None:
        """The record of `stage` that was in force."""
        if self.at is None:
            return self.plans[stage].record
        if stage not in self._records:
            self._records[stage] = record_of(self.run.lake, self.plans[stage].dataset, self._ref, stage)
        return self._records[stage]

    def is_stored(self, stage: str) -> bool:
        """Whether the files of `stage` are there."""
        record = self.record(stage)
        return record is not None and record.is_there(self.run.lake)

    def read(self, stage: str, table: Table, *wanted: pl.Expr, columns: Sequence[str] = ()) -> pl.DataFrame | None:
        """Rows of a stage's table, all or those that are `wanted`; None where it is not there, or no longer.

        Raises DataError when a file is damaged.
        """
        record, dataset = self.record(stage), self.run.dataset
        root = record.folder(self.run.lake) if record is not None else None
        if root is None or not table.exists(root, dataset):
            return None
        try:
            rows = scan_table(table, root, dataset).filter(*wanted)
            return (rows.select(columns) if columns else rows).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            path = table.file(root, dataset)
            raise DataError(
                f"{path} is damaged ({reason}): delete it and run `rallrec run {dataset} --select {stage}`"
            ) from error

    def row(self, stage: str, table: Table, item_id: str) -> dict[str, Any] | None:
        """Provenance of an item's row, from the rows of the record, else from the table itself.

        Empty where there is no such row, None where rows are not stored.
        """
        record, wanted = self.record(stage), pl.col("item_id") == item_id
        rows = record.rows(self.run.lake) if record is not None else None
        found = rows.filter(wanted) if rows is not None else self.read(stage, table, wanted)
        return None if found is None else found.row(0, named=True) if found.height else {}

    def steps(self) -> dict[str, Step]:
        """All stages that lead to an item's vector or to predictions, in the order of the graph."""
        steps: dict[str, Step] = {}
        asked = _chain(tuple(stage for stage in ON_REQUEST_PREDICTORS if self.record(stage) is not None))
        for name in EVERY_STAGE:
            if name in asked:
                steps[name] = self._step(name, steps)
        return steps

    def _step(self, name: str, before: dict[str, Step]) -> Step:
        record, reasons = self.record(name), self._reasons(name)
        waits_for = [given for given in EVERY_STAGE[name].inputs if not before[given].fresh]
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
        record, plan = self.record(name), self.plans[name]
        if self.at is None:
            return plan.reasons
        if record is None:
            return [REMOVED if name in (self._ref.results if self._ref else {}) else "not made until then"]
        current = plan.record
        if current is None or current.fingerprint == record.fingerprint:
            return plan.reasons
        return [f"made again by run {current.run_id} at {current.created_at}"]


def _ref_of(run: StageRun, at: At) -> Ref | None:
    """What the run left behind."""
    left = [ref for ref in past_refs(run.lake, run.dataset) if ref.run_id == at.run_id]
    return max(left, key=lambda ref: len(ref.results), default=None)  # a study's own ref names the study alone


def find_moment(lake: Path, dataset: str, asked: str) -> At:
    """When the run `asked` (its id, or the first characters of it) wrote its last record of `dataset`.

    Raises ConfigError that lists the newest known runs.
    """
    ended: dict[str, str] = {}
    for ref in past_refs(lake, dataset):  # newest first
        ended.setdefault(ref.run_id, ref.at)
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
    return [f"{what}: not stored any more, {stage} has lost its files"]


@cache
def _chain(on_request: tuple[str, ...]) -> frozenset[str]:
    return frozenset(upstream(EVERY_STAGE, ("item_index", *PREDICTORS, RECOMMENDING, *on_request)))
