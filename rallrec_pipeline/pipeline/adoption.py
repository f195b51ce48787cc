"""A lake from before results had addresses: what it holds is taken over, not made again.

There a result lay in a slot for its dataset and stage, with a record beside it in `provenance/`. Each record that still
fits its files becomes a result under the fingerprint that it would have today; nothing is copied where the file system
has links. Then the old records go: only what was in force has an address, earlier states had none.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.locks import lake_lock
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.lake.store import (
    Given,
    Record,
    finish_result,
    link_tree,
    put_in_force,
    read_ref,
    record_of,
    unfinished_result,
)
from rallrec_pipeline.pipeline.context import SHARED, StageRun
from rallrec_pipeline.pipeline.stage import Graph, Stage, deciding, fingerprint_of
from rallrec_pipeline.settings import ROLES, essential
from rallrec_pipeline.tuning.store import adapter_home, adapter_key

OLD = "provenance"
KNOWN = {"inputs", "files", "settings", "code_version", "data_version", "run_id", "created_at", "seconds"}
"""What a record of that time says; one that lacks any of it is as good as none."""
ONE_MODEL = "base_model"
"""The model before there were roles: it played all of them."""


def adopt_dataset(run: StageRun, graph: Graph) -> None:
    """Take over what an older version of this program made of `run`'s dataset and of what all datasets share."""
    own = run.lake / OLD / run.dataset
    if run.dataset == SHARED or not own.is_dir():
        return
    with lake_lock(run.lake, run.dataset, run.log), lake_lock(run.lake, SHARED, run.log):
        _keep_adapters(run.lake, run.dataset)
        known: dict[str, Record] = {}
        for stage in graph.values():
            dataset = run.dataset if stage.partitioned else SHARED
            ref = read_ref(run.lake, dataset, run.settings.profile)
            if (done := record_of(run.lake, dataset, ref, stage.name)) is not None:
                known[stage.name] = done  # of an adoption that was broken off
                continue
            found = _sidecar(run.lake, ONE_MODEL if stage.name in ROLES else stage.name, dataset)
            if found is not None and (record := _adopted(run, stage, dataset, found, known)) is not None:
                known[stage.name] = record
                shared = {n: g.fingerprint for n, g in record.inputs.items() if g.dataset == SHARED != dataset}
                put_in_force(run.lake, record, run.settings.profile, record.run_id, shared)
        shutil.rmtree(own, ignore_errors=True)
    run.log(f"{run.dataset}: {len(known)} of {len(graph)} results of an older version were taken over")


def _adopted(
    run: StageRun, stage: Stage, dataset: str, old: Mapping[str, Any], known: Mapping[str, Record]
) -> Record | None:
    """The result that an old record becomes; None where its files have changed or its inputs are not known."""
    given = {stage.role or name if name == ONE_MODEL else name: version for name, version in old["inputs"].items()}
    files = [run.lake / name for name in old["files"]]
    version = old.get("bytes_version") or old["data_version"]
    if set(given) - set(known) or set(stage.inputs) != set(given) or not files:
        return None
    if not all(file.exists() for file in files) or content_version(files) != version:
        return None
    settings = _as_now(stage, run, old["settings"])
    fingerprint = fingerprint_of(stage.name, old["code_version"], given, settings)
    with unfinished_result(run.lake, dataset, stage.name, fingerprint) as draft:
        outputs = [_taken(file, run.lake, draft) for file in files]
        record = Record(
            stage=stage.name,
            dataset=dataset,
            fingerprint=fingerprint,
            data_version=old["data_version"],
            inputs={n: Given(known[n].dataset, known[n].fingerprint, v) for n, v in given.items()},
            settings=settings,
            code_version=old["code_version"],
            run_id=old["run_id"],
            created_at=old["created_at"],
            seconds=old["seconds"],
            metadata=old.get("metadata", {}),
        )
        rows = _rows(run.lake, old)
        return finish_result(run.lake, draft, record, outputs, rows)


def _taken(file: Path, lake: Path, draft: Path) -> Path:
    """`file` within the result, unless it is one that was fetched: those stay where they are."""
    inside = file.relative_to(lake)
    if inside.parts[0] in ("raw", "models"):
        return file
    companion = file.with_suffix(".json")  # of predictions
    if inside.parts[0] == "predictions" and companion.exists():
        link_tree(companion, draft / companion.relative_to(lake))
    link_tree(file, draft / inside)
    return draft / inside


def _keep_adapters(lake: Path, dataset: str) -> None:
    """Adapters are found by their key, whichever result shares them, and whether or not one was taken over."""
    for folder in sorted((lake / "checkpoints" / dataset).glob("*")):
        key = adapter_key(folder)
        if key is not None and adapter_key(home := adapter_home(lake, dataset, folder.name, key)) is None:
            shutil.rmtree(home, ignore_errors=True)
            link_tree(folder, home)


def _as_now(stage: Stage, run: StageRun, old: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an old record in the form of today: known fields only, defaults left out."""
    today = deciding(stage, run)
    return {name: essential(_like(value, old[name])) for name, value in today.items() if name in old}


def _like(pattern: Any, value: Any) -> Any:
    """`value`, plain JSON, as the sections that `pattern` is made of; what they do not know any more is dropped."""
    if isinstance(pattern, BaseModel) and isinstance(value, Mapping):
        fields = type(pattern).model_fields
        known = {name: _like(getattr(pattern, name), part) for name, part in value.items() if name in fields}
        return type(pattern).model_validate(known)
    if isinstance(pattern, list | tuple) and isinstance(value, list) and len(pattern) == len(value):
        return [_like(p, v) for p, v in zip(pattern, value, strict=True)]
    return value


def _rows(lake: Path, old: Mapping[str, Any]) -> pl.DataFrame | None:
    name = old.get("rows_file")
    try:
        return pl.read_parquet(lake / name, glob=False) if name and (lake / name).exists() else None
    except (pl.exceptions.PolarsError, OSError):
        return None


def _sidecar(lake: Path, stage: str, dataset: str) -> Mapping[str, Any] | None:
    path = lake / OLD / dataset / f"{stage}.json"
    try:
        found = read_json(path) if path.exists() else None
    except DataError:
        return None
    return found if isinstance(found, dict) and found.keys() >= KNOWN else None
