"""Group `models`: the model of each role, shared by all datasets."""

from __future__ import annotations

from rallrec_pipeline.lake.store import Record, all_records, whole
from rallrec_pipeline.language_models.dtypes import auto_dtype
from rallrec_pipeline.language_models.models import (
    fetch_model,
    is_as_fetched,
    is_unrecorded,
    model_fingerprint,
    model_folder,
)
from rallrec_pipeline.pipeline.context import SHARED, Made, StageRun
from rallrec_pipeline.pipeline.readiness import model_record, require_fit_model
from rallrec_pipeline.settings import ALL_ROLES
from rallrec_pipeline.text import clean_text

TOLD = ("source", "fingerprint", "auto_dtype", "auto_dtype_reason")


def role_model(run: StageRun) -> Made:
    """The model of a role as safetensors with its tokenizer.

    One that plays another role, or was copied from another lake, is not fetched again.
    """
    model = run.settings.model
    known = _fetched(run)
    if known is not None:
        run.log(f"{run.role}: {model.name} is here, as {known.stage}")
        return Made(known.paths(run.lake), {name: known.metadata.get(name) for name in TOLD})
    folder = model_folder(run.lake, model)
    if is_as_fetched(model, run.lake):
        run.log(f"{run.role}: {model.name} is here, with the checksums of its source")
    elif is_unrecorded(model, run.lake) and not _has_known_source(run):
        run.log(f"{run.role}: {model.name} lies in {folder} without a record and is taken as it is: delete it to fetch")
    else:
        require_fit_model(run)  # before gigabytes are fetched
        run.log(f"{run.role}: fetching {clean_text(model.source, 200)}")
        fetch_model(model, run.lake)
    run.log(f"{run.role}: model.dtype auto is {auto_dtype().name} here, as {auto_dtype().reason}")
    told = (model.source, model_fingerprint(folder), *auto_dtype())
    return Made([folder], dict(zip(TOLD, told, strict=True)))


def _has_known_source(run: StageRun) -> bool:
    """Whether a result of the lake tells where the model of that name came from, be it another source."""
    known = (record for role in ALL_ROLES for record in all_records(run.lake, SHARED, role))
    return any(record.settings.get("name") == run.settings.model.name for record in known)


def _fetched(run: StageRun) -> Record | None:
    """The record of the same model in another role, where its files are whole."""
    record = model_record(run.lake, run.settings)
    if record is None or record.stage == run.role or not model_folder(run.lake, run.settings.model).is_dir():
        return None
    return whole(run.lake, record, verify=True)
