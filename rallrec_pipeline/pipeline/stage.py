"""A stage does work only when what it depends on has changed.

Dagster alone cannot stop a run that selects everything from redoing all of it, so the gate is here: the fingerprint of
a stage is the hash of its inputs' data versions, its settings and its code version. It is stored beside the lake's
artefacts, so the command line, the UI and another instance agree about what is fresh.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.history import has_history, record_run, write_rows
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.lake.provenance import (
    Sidecar,
    artefact_states,
    content_version,
    now,
    read_sidecar,
    sidecar_path,
    stable_hash,
    write_sidecar,
)
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.context import SHARED, Compute, Made, Markdown, StageRun
from rallrec_pipeline.settings import Settings

SettingsOf = Callable[[Settings, DatasetSpec], Mapping[str, Any]]


@dataclass(frozen=True)
class Stage:
    """One asset: what it needs, which settings it depends on, how it is computed.

    Raise `code_version` when the computing changes its output: that makes the stage stale.
    """

    name: str
    group: str
    inputs: tuple[str, ...]
    description: str
    compute: Compute
    depends_on: SettingsOf = lambda settings, spec: {}
    code_version: str = "1"
    uses_llm: bool = False
    partitioned: bool = True


@dataclass(frozen=True)
class Outcome:
    """The record of a stage after a run; `worked` is False when it was up to date."""

    record: Sidecar
    worked: bool


def run_stage(stage: Stage, run: StageRun, shared: frozenset[str]) -> Outcome:
    """Compute `stage` unless its fingerprint is that of the stored artefact.

    `shared` names the unpartitioned assets. Of several runs of one dataset one works at a time, and of all that need
    the LLM, whatever started them. Raises StaleArtefactError when an input was never made.
    """
    with lake_lock(run.lake, run.dataset if stage.partitioned else SHARED, run.log):
        return _run_locked(stage, run, shared)


@dataclass(frozen=True)
class Plan:
    """What a stage depends on at this moment, and why it is stale; no reason means that it is up to date."""

    fingerprint: str
    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    previous: Sidecar | None
    reasons: list[str]


def plan_stage(stage: Stage, run: StageRun, shared: frozenset[str]) -> Plan:
    """Compare `stage` with its record, without work. Raises StaleArtefactError when an input was never made."""
    dataset = run.dataset if stage.partitioned else SHARED
    inputs = {name: _input_version(name, run, shared) for name in stage.inputs}
    settings = _as_json(stage.depends_on(run.settings, run.spec) if stage.partitioned else _shared(stage, run))
    fingerprint = stable_hash(stage.name, stage.code_version, inputs, settings)
    previous = read_sidecar(run.lake, stage.name, dataset)
    if previous is None:
        reasons = ["never finished" if has_history(run.lake, stage.name, dataset) else "never made"]
    elif previous.fingerprint != fingerprint:
        reasons = changes(previous, inputs, settings, stage.code_version)
    else:
        reasons = [] if previous.is_whole(run.lake) else ["its files were edited"]
    return Plan(fingerprint, inputs, settings, previous, reasons)


def _run_locked(stage: Stage, run: StageRun, shared: frozenset[str]) -> Outcome:
    dataset = run.dataset if stage.partitioned else SHARED
    plan = plan_stage(stage, run, shared)
    if plan.previous is not None and not plan.reasons:
        run.log(f"{stage.name}: up to date")
        return Outcome(_with_states(plan.previous, run.lake), worked=False)
    with lake_lock(run.lake, LLM, run.log) if stage.uses_llm else nullcontext():
        # From here on the files may be those of a broken-off run: no record may vouch for them.
        sidecar_path(run.lake, stage.name, dataset).unlink(missing_ok=True)
        start = time.perf_counter()
        made = stage.compute(replace(run, fingerprint=plan.fingerprint))
    bytes_version = content_version(made.files)
    record = Sidecar(
        artefact=stage.name,
        dataset=dataset,
        fingerprint=plan.fingerprint,
        data_version=made.version or bytes_version,
        inputs=plan.inputs,
        settings=plan.settings,
        code_version=stage.code_version,
        run_id=run.run_id,
        created_at=now(),
        seconds=round(time.perf_counter() - start, 3),
        files=[_within(file, run.lake) for file in made.files],
        metadata=_plain_metadata(made)
        | {"why": plan.reasons}
        | ({"machine": machine_name()} if stage.uses_llm else {}),
        bytes_version=bytes_version,
        states=artefact_states(made.files),
        rows_file=None if made.rows is None else write_rows(run.lake, stage.name, dataset, made.rows),
    )
    record_run(run.lake, record)
    run.log(f"{stage.name}: done in {record.seconds:.1f} s{_counted(record)}")
    return Outcome(record, worked=True)


def changes(record: Sidecar, inputs: Mapping[str, str], settings: Mapping[str, Any], code_version: str) -> list[str]:
    """Why `record` no longer holds, in words: inputs, settings by their dotted names, code."""
    reasons = [f"{name} changed" for name in inputs if record.inputs.get(name) != inputs[name]]
    reasons += [f"{name} is no input any more" for name in record.inputs if name not in inputs]
    before, after = _flat(record.settings), _flat(settings)
    moved = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    reasons += [f"setting {key} changed" for key in moved]
    reasons += ["the code changed"] if record.code_version != code_version else []
    return reasons or ["what it depends on changed"]


def _with_states(record: Sidecar, lake: Path) -> Sidecar:
    """The record of files whose content holds; where they were copied or touched, it learns their new times."""
    states = artefact_states([lake / name for name in record.files])
    if states == record.states:
        return record
    renewed = replace(record, states=states)
    write_sidecar(lake, renewed)
    return renewed


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, as they look after a round trip through JSON."""
    if not isinstance(value, Mapping):
        return {name: json.loads(json.dumps(value))}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}" if name else key).items()}


def _counted(record: Sidecar) -> str:
    counts = {k.removeprefix("rows_"): n for k, n in record.metadata.items() if k.startswith("rows_") and n}
    return f" ({', '.join(f'{n:,} {name}' for name, n in counts.items())})" if counts else ""


def _shared(stage: Stage, run: StageRun) -> Mapping[str, Any]:
    return stage.depends_on(run.settings, None)  # type: ignore[arg-type]  # an unpartitioned stage has no dataset


def _input_version(name: str, run: StageRun, shared: frozenset[str]) -> str:
    dataset = SHARED if name in shared else run.dataset
    record = read_sidecar(run.lake, name, dataset)
    if record is None:
        raise StaleArtefactError(
            f"{name} of {run.dataset!r} was never made: run `rallrec run {run.dataset} --select {name}` first"
        )
    return record.data_version


def _within(path: Path, lake: Path) -> str:
    return path.relative_to(lake).as_posix()


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _plain_metadata(made: Made) -> dict[str, Any]:
    return {k: {"markdown": v.text} if isinstance(v, Markdown) else v for k, v in made.metadata.items()}
