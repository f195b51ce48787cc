"""What a stage is, and what it takes to make one up to date.

The address of a result is its fingerprint: the hash of the stage's inputs by their content, of the settings that it
declares, defaults left out, and of its code version. A result that exists is up to date, whichever run made it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DamagedError, StaleArtefactError
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.sealed import is_whole
from rallrec_pipeline.lake.sound import advice
from rallrec_pipeline.lake.store import (
    IN_FORCE,
    Given,
    Record,
    Ref,
    finish_result,
    has_lost_record,
    lost_refs,
    put_in_force,
    read_record,
    read_ref,
    record_of,
    unfinished_result,
    whole,
)
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.context import SHARED, Compute, Made, Markdown, StageRun
from rallrec_pipeline.settings import Role, Settings, essential

SettingsOf = Callable[[Settings, DatasetSpec], Mapping[str, Any]]
ALL = "*"
"""Stands for every stage."""
FORCED = "it was asked for, though it was up to date"
ALWAYS = ("profile", "protocol")
"""Settings that every stage may see: the name of the variant, and which protocol gives the dataset's own."""


@dataclass(frozen=True)
class Stage:
    """One asset: what it needs, which settings it depends on, how it is computed.

    `sections` are the settings that it may read, `depends_on` those that decide its output. Raise `code_version` when
    the computing changes its output: that makes the stage stale.
    """

    name: str
    group: str
    inputs: tuple[str, ...]
    description: str
    compute: Compute
    depends_on: SettingsOf = lambda settings, spec: {}
    sections: tuple[str, ...] = ()
    code_version: str = "1"
    uses_llm: bool = False
    partitioned: bool = True
    role: Role | None = None
    """The role of the model that it works with."""
    beside: Callable[[StageRun], Sequence[Path]] = lambda run: ()
    """Sealed documents that it keeps outside its result; where one is damaged it works, and leaves it whole or gone."""


Graph = Mapping[str, Stage]
"""Stages by name, inputs before those that use them."""


@dataclass(frozen=True)
class Plan:
    """What a stage depends on at this moment.

    `result` is what was made of exactly that; None: there is work to do. `before` is what the variant has had so far.
    `reasons` say why there is no result, `waits_for` names inputs that are not up to date, so that it may yet change.
    """

    stage: Stage
    dataset: str
    fingerprint: str
    inputs: Mapping[str, Record]
    settings: Mapping[str, Any]
    result: Record | None
    before: Record | None
    reasons: list[str]
    waits_for: list[str]
    damaged: Sequence[str] = ()
    """Files of the result, or of what the variant has had, whose bytes have changed by themselves."""

    @property
    def is_fresh(self) -> bool:
        """Whether there is nothing to do, here and before."""
        return self.result is not None and not self.waits_for

    @property
    def record(self) -> Record | None:
        """The result, or what the variant has had so far."""
        return self.result or self.before


@dataclass(frozen=True)
class Outcome:
    """The record of a stage after a run; `worked` is False when it was up to date."""

    record: Record
    worked: bool


def run_stage(run: StageRun, graph: Graph, name: str, force: bool = False) -> Outcome:
    """Make the result of the stage `name` of `run`'s dataset unless it exists, and put it in force.

    With `force` it is made anew in any case; rows that the LLM has finished are taken from the memo all the same.

    Of several runs of one dataset one works at a time, and of all that need the LLM, whatever started them. The bytes
    of the result are held against its record, and those of its inputs where there is work to do. Raises
    StaleArtefactError when an input was never made, DamagedError when its bytes are not what was written.
    """
    stage = graph[name]
    with lake_lock(run.lake, run.dataset if stage.partitioned else SHARED, run.log):
        plans = plan_stages(run, graph, [name], verified=name)
        plan = plans[name]
        if any(given not in plan.inputs for given in stage.inputs):
            raise _never_made(run, [before for before, one in plans.items() if one.record is None and before != name])
        if force and plan.result is not None:
            plan = replace(plan, result=None, before=None, reasons=[FORCED])  # and takes over nothing
        if plan.result is None:
            _require_whole(run, plan)
        return put_result(run, plan)


def _never_made(run: StageRun, missing: list[str]) -> StaleArtefactError:
    """What lacks before a stage, and the one command that makes it."""
    first, more = f"{missing[0]} of {run.dataset!r}", len(missing) - 1
    lacks = f"{first} and {more} other{'s' if more > 1 else ''} after it were" if more else f"{first} was"
    command = f"rallrec run {run.dataset} --select {','.join(missing)}"
    return StaleArtefactError(f"{lacks} never made: run `{command} --profile {run.settings.profile}` first")


def _require_whole(run: StageRun, plan: Plan) -> None:
    """Raises an error when the files of an input are not those that its record tells of."""
    for name, record in plan.inputs.items():
        if damaged := record.damaged(run.lake):
            place = f"{run.lake / damaged[0]} of {name} of {run.dataset!r}"
            raise DamagedError(f"{place} is damaged: {advice(run.dataset, name)}")
        if whole(run.lake, record) is None:
            command = f"rallrec run {run.dataset} --select {name}"
            raise StaleArtefactError(
                f"files of {name} of {run.dataset!r} were edited or replaced: run `{command}` first"
            )


def put_result(run: StageRun, plan: Plan) -> Outcome:
    """Make the result of a plan unless it exists, and put it in force."""
    name, record = plan.stage.name, plan.result
    if record is None:
        if plan.damaged:
            more = len(plan.damaged) - 1
            others = f" and {more} other file{'' if more == 1 else 's'}" if more else ""
            run.log(f"{name}: made anew, as {run.lake / plan.damaged[0]}{others} {'are' if more else 'is'} damaged")
        with lake_lock(run.lake, LLM, run.log) if plan.stage.uses_llm else nullcontext():
            record = _make(plan, run)
        run.log(f"{name}: done in {record.seconds:.1f} s{_counted(record)}")
    else:
        run.log(f"{name}: up to date")
    shared = {n: given.fingerprint for n, given in plan.inputs.items() if given.dataset == SHARED != plan.dataset}
    for path in lost_refs(run.lake, plan.dataset, f".{IN_FORCE}", run.settings.profile):
        run.log(f"{name}: {path} is damaged, it is made anew")
    put_in_force(run.lake, record, run.settings.profile, run.run_id, shared, run.publish)
    return Outcome(record, worked=plan.result is None)


def looking(lake: Path, dataset: str, settings: Settings) -> StageRun:
    """A run that only looks: for plans, status and lineage."""
    return StageRun(lake, dataset, settings, "", log=lambda _: None, progress=lambda _: lambda done, total: None)


def everything(run: StageRun, plans: Mapping[str, Plan]) -> StageRun:
    """`run` that may look at the result of every stage: for checks, status and lineage."""
    return replace(run, inputs={name: plan.record for name, plan in plans.items() if plan.record is not None})


def plan_stages(
    run: StageRun, graph: Graph, names: Sequence[str] | None = None, verified: str | None = None
) -> dict[str, Plan]:
    """Plans of the stages `names` (default: all) and of all that lies before them, in the order of the graph.

    The bytes of the result of the stage `verified` are looked at, or of all (`ALL`).
    """
    wanted = upstream(graph, graph if names is None else names)
    had = {dataset: read_ref(run.lake, dataset, run.settings.profile) for dataset in (run.dataset, SHARED)}
    plans: dict[str, Plan] = {}
    for name, stage in graph.items():
        if name in wanted:
            ref = had[run.dataset if stage.partitioned else SHARED]
            plans[name] = _plan(run, stage, plans, ref, verified in (name, ALL))
    return plans


def upstream(graph: Graph, names: Sequence[str] | Graph) -> set[str]:
    """`names` and every stage that they are made from."""
    found = set(names)
    for name in reversed(list(graph)):
        if name in found:
            found |= set(graph[name].inputs)
    return found


def _plan(run: StageRun, stage: Stage, plans: Mapping[str, Plan], had: Ref | None, verify: bool) -> Plan:
    inputs = {name: record for name in stage.inputs if (record := plans[name].record) is not None}
    return plan_with(run, stage, inputs, [name for name in stage.inputs if not plans[name].is_fresh], had, verify)


def plan_with(
    run: StageRun,
    stage: Stage,
    inputs: Mapping[str, Record],
    waits_for: list[str],
    had: Ref | None,
    verify: bool = False,
) -> Plan:
    """The plan of a stage on these inputs, where the variant has `had`; `verify` has its result's bytes looked at."""
    dataset = run.dataset if stage.partitioned else SHARED
    settings = decisive_settings(stage, run)
    versions = {name: record.data_version for name, record in inputs.items()}
    fingerprint = fingerprint_of(stage.name, stage.code_version, versions, settings)
    before = record_of(run.lake, dataset, had, stage.name)
    in_ref = had.results.get(stage.name) if had is not None else None
    stored = None
    if len(inputs) == len(stage.inputs):
        stored = before if in_ref == fingerprint else read_record(run.lake, dataset, stage.name, fingerprint)
    is_noted = not verify or all(is_whole(path) for path in stage.beside(run))
    result = whole(run.lake, stored, verify) if stored is not None and is_noted else None
    known = stored or before
    damaged = known.damaged(run.lake) if verify and result is None and known is not None else []
    if result is not None:
        reasons = []
    elif not is_noted or has_lost_record(run.lake, dataset, stage.name, fingerprint):
        reasons = ["its record was damaged"]
    elif stored is not None:
        reasons = ["its files were damaged" if damaged else "its files were edited"]
    elif before is not None:
        reasons = changes(before, versions, settings, stage.code_version)
    else:
        reasons = ["never made" if in_ref is None else "its result was removed"]
    return Plan(stage, dataset, fingerprint, inputs, settings, result, before, reasons, waits_for, damaged)


def fingerprint_of(stage: str, code_version: str, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The address of a result: `inputs` by their data versions, `settings` without defaults."""
    return stable_hash(stage, code_version, inputs, settings)


def decisive_settings(stage: Stage, run: StageRun) -> dict[str, Any]:
    """The settings that decide a stage's output, JSON-able, defaults left out."""
    return dict(essential(deciding(stage, run)))


def deciding(stage: Stage, run: StageRun) -> Mapping[str, Any]:
    """The settings that decide a stage's output, as they are."""
    spec = run.spec if stage.partitioned else None
    return stage.depends_on(run.settings, spec)  # type: ignore[arg-type]  # shared: no dataset


def declared(settings: Settings, sections: Sequence[str]) -> Settings:
    """`settings` with nothing but `sections`: any other raises AttributeError when it is read."""
    seen = Settings.model_construct(**{name: getattr(settings, name) for name in (*ALWAYS, *sections)})
    for name in set(Settings.model_fields) - {*ALWAYS, *sections}:
        del seen.__dict__[name]
    return seen


def changes(record: Record, inputs: Mapping[str, str], settings: Mapping[str, Any], code_version: str) -> list[str]:
    """Why `record` no longer holds, in words: inputs by data version, settings by their dotted names, code.

    What stands in settings as it is comes before what is made of several of them, as `asked` of methods.
    """
    given = {name: was.data_version for name, was in record.inputs.items()}
    reasons = [f"{name} changed" for name in inputs if given.get(name) != inputs[name]]
    reasons += [f"{name} is no input any more" for name in given if name not in inputs]
    before, after = flat(record.settings), flat(settings)
    moved = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    moved.sort(key=lambda key: (key.partition(".")[0] not in Settings.model_fields, key))
    reasons += [f"setting {key} changed" for key in moved]
    reasons += ["the code changed"] if record.code_version != code_version else []
    return reasons or ["what it depends on changed"]


def _make(plan: Plan, run: StageRun) -> Record:
    """Compute a stage into a folder of its own, which gets its name when everything is written."""
    stage, start = plan.stage, time.perf_counter()
    with unfinished_result(run.lake, plan.dataset, stage.name, plan.fingerprint) as draft:
        own = replace(
            run,
            dataset=plan.dataset,
            settings=declared(run.settings, stage.sections),
            inputs=plan.inputs,
            out=draft,
            fingerprint=plan.fingerprint,
            previous=plan.before and whole(run.lake, plan.before, verify=True),
            damaged=tuple(run.lake / name for name in plan.damaged),
        )
        made = stage.compute(own.in_role(stage.role) if stage.role else own)
        machine = {"machine": machine_name()} if stage.uses_llm else {}
        record = Record(
            stage=stage.name,
            dataset=plan.dataset,
            fingerprint=plan.fingerprint,
            data_version=made.version or "",
            inputs={name: _given(name, record) for name, record in plan.inputs.items()},
            settings=plan.settings,
            code_version=stage.code_version,
            run_id=run.run_id,
            created_at=now(),
            seconds=round(time.perf_counter() - start, 3),
            metadata=_plain_metadata(made) | {"why": plan.reasons} | machine,
        )
        return finish_result(run.lake, draft, record, made.files, made.rows)


def _given(name: str, record: Record) -> Given:
    return Given(record.dataset, record.fingerprint, record.data_version, "" if record.stage == name else record.stage)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, as they look after a round trip through JSON."""
    if not isinstance(value, Mapping):
        return {name: json.loads(json.dumps(value))}
    return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}" if name else key).items()}


def _counted(record: Record) -> str:
    counts = {
        k.removeprefix("rows_").replace("_", " "): n
        for k, n in record.metadata.items()
        if k.startswith(("rows_", "users_")) and n
    }
    return f" ({', '.join(f'{n:,} {name}' for name, n in counts.items())})" if counts else ""


def _plain_metadata(made: Made) -> dict[str, Any]:
    return {k: {"markdown": v.text} if isinstance(v, Markdown) else v for k, v in made.metadata.items()}
