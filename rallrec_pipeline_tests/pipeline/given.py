"""Results for tests of single stages and checks: written by hand, or by one stage out of what a run was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.lake.store import Record, finish_result, record_of, unfinished_result
from rallrec_pipeline.lake.store import in_force as ref_in_force
from rallrec_pipeline.lake.tables import Table
from rallrec_pipeline.pipeline.context import SHARED, Made, StageRun
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import declared, everything, plan_stages, run_stage
from rallrec_pipeline.settings import ROLES, ModelSettings, Settings


def looking_run(lake: Path, dataset: str, settings: Settings, log: Callable[[str], None] = print) -> StageRun:
    """A run whose inputs are given one by one."""
    return StageRun(lake, dataset, settings, "run", log, lambda _: lambda done, total: None, inputs={})


def store(
    lake: Path,
    dataset: str,
    stage: str,
    write: Callable[[Path], Sequence[Path]] = lambda root: [],
    rows: pl.DataFrame | None = None,
    **known: Any,
) -> Record:
    """One more result of `stage` with the files that `write` makes below a folder; `known` are fields of its record."""
    plain = Record(stage, dataset, uuid4().hex, "", {}, {}, "1", "run", now(), 0.0)
    record = replace(plain, **known)
    with unfinished_result(lake, dataset, stage, record.fingerprint) as draft:
        return finish_result(lake, draft, record, list(write(draft)), rows)


def give(run: StageRun, table: Table, frame: pl.DataFrame, **known: Any) -> Record:
    """Let `frame` be what the stage of `table` has made, as an input of `run`."""
    made = store(
        run.lake, run.dataset, table.stage, lambda root: [write_table(frame, table, root, run.dataset)], **known
    )
    _take(run, made)
    return made


def give_model(run: StageRun, model: ModelSettings, **known: Any) -> None:
    """Let `model` play all roles of `run`; its folder is the test's own."""
    settings = {"source": model.source, "name": model.name}
    fields = {"data_version": "weights", "settings": settings} | known
    for role in ROLES:
        _take(run, store(run.lake, SHARED, role, **fields))


def work(run: StageRun, stage: str) -> tuple[Made, Record]:
    """What `stage` makes of the inputs that `run` has; its result becomes one of them."""
    settings, fingerprint = declared(run.settings, STAGES[stage].sections), uuid4().hex
    with unfinished_result(run.lake, run.dataset, stage, fingerprint) as draft:
        own = replace(run, settings=settings, out=draft, fingerprint=fingerprint, previous=run.inputs.get(stage))
        made = STAGES[stage].compute(own)
        plain = Record(stage, run.dataset, fingerprint, made.version or "", {}, {}, "1", run.run_id, now(), 0.0)
        record = finish_result(run.lake, draft, replace(plain, metadata=dict(made.metadata)), made.files, made.rows)
    _take(run, record)
    return made, record


def _take(run: StageRun, record: Record) -> None:
    assert isinstance(run.inputs, dict)
    run.inputs[record.stage] = record


def make_stages(
    lake: Path,
    dataset: str,
    settings: Settings,
    *names: str,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, bool]:
    """One run of the stages `names` (default: all), in the order of the graph; returns which of them worked."""
    run = replace(looking_run(lake, dataset, settings, log), run_id=uuid4().hex)
    return {name: run_stage(run, STAGES, name).worked for name in STAGES if not names or name in names}


def seeing(run: StageRun) -> StageRun:
    """`run` with all that was made as its inputs, as a check has them."""
    return everything(run, plan_stages(run, STAGES))


def in_force_now(lake: Path, dataset: str, stage: str) -> Record:
    """The record of what the links of `dataset` lead to."""
    record = record_of(lake, dataset if STAGES[stage].partitioned else SHARED, ref_in_force(lake, dataset), stage)
    assert record is not None, stage
    return record
