"""Group `models`: the model of each role, shared by all datasets."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline.lake.store import Record, all_records, whole
from rallrec_pipeline.language_models.dtypes import auto_dtype
from rallrec_pipeline.language_models.models import fetch_model, is_model_folder, model_fingerprint, model_folder
from rallrec_pipeline.pipeline.context import SHARED, Made, StageRun
from rallrec_pipeline.pipeline.readiness import model_record, require_fit_model
from rallrec_pipeline.settings import ALL_ROLES
from rallrec_pipeline.text import clean_text

TOLD = ("source", "fingerprint", "auto_dtype", "auto_dtype_reason")


def role_model(run: StageRun) -> Made:
    """The model of a role as safetensors with its tokenizer; one that plays another role is not fetched again."""
    model = run.settings.model
    known = _fetched(run)
    if known is not None:
        run.log(f"{run.role}: {model.name} is here, as {known.stage}")
        return Made(known.paths(run.lake), {name: known.metadata.get(name) for name in TOLD})
    folder = model_folder(run.lake, model)
    if _was_copied(run, folder):
        run.log(f"{run.role}: {model.name} lies in {folder} without a record and is taken as it is: delete it to fetch")
    else:
        require_fit_model(run)  # before gigabytes are fetched
        run.log(f"{run.role}: fetching {clean_text(model.source, 200)}")
        folder = fetch_model(model, run.lake)
    run.log(f"{run.role}: model.dtype auto is {auto_dtype().name} here, as {auto_dtype().reason}")
    told = (model.source, model_fingerprint(folder), *auto_dtype())
    return Made([folder], dict(zip(TOLD, told, strict=True)))


def _was_copied(run: StageRun, folder: Path) -> bool:
    """Whether a whole model lies where this one belongs, of which no record tells, nor of another in its place.

    A local source is not asked: it is copied again, as it may be another by now.
    """
    if not is_model_folder(folder) or Path(run.settings.model.source).is_dir():
        return False
    known = (record for role in ALL_ROLES for record in all_records(run.lake, SHARED, role))
    return not any(record.settings.get("name") == run.settings.model.name for record in known)


def _fetched(run: StageRun) -> Record | None:
    """The record of the same model in another role, where its files are whole."""
    record = model_record(run.lake, run.settings)
    if record is None or record.stage == run.role or not model_folder(run.lake, run.settings.model).is_dir():
        return None
    return whole(run.lake, record, verify=True)
