"""Group `models`: the model of each role, shared by all datasets."""

from __future__ import annotations

from rallrec_pipeline.lake.store import Record, whole
from rallrec_pipeline.language_models.dtypes import resolve_dtype
from rallrec_pipeline.language_models.models import fetch_model, is_as_fetched, model_fingerprint, model_folder
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.readiness import model_record, require_fit_model
from rallrec_pipeline.text import clean_text

TOLD = ("source", "fingerprint", "auto_dtype")


def role_model(run: StageRun) -> Made:
    """The model of a role as safetensors with its tokenizer.

    One that plays another role, or was copied from another lake, is not fetched again.
    """
    model = run.settings.model
    known = _fetched(run)
    if known is not None:
        run.log(f"{run.role}: {model.name} is here, as {known.stage}")
        return Made(known.paths(run.lake), {name: known.metadata.get(name) for name in TOLD})
    require_fit_model(run)  # before gigabytes are fetched
    folder = model_folder(run.lake, model)
    if is_as_fetched(model, run.lake):
        run.log(f"{run.role}: {model.name} is here, with the checksums of its source")
    else:
        run.log(f"{run.role}: fetching {clean_text(model.source, 200)}")
        fetch_model(model, run.lake)
    told = (model.source, model_fingerprint(folder), resolve_dtype("auto"))
    return Made([folder], dict(zip(TOLD, told, strict=True)))


def _fetched(run: StageRun) -> Record | None:
    """The record of the same model in another role, where its files are whole."""
    record = model_record(run.lake, run.settings)
    if record is None or record.stage == run.role or not model_folder(run.lake, run.settings.model).is_dir():
        return None
    return whole(run.lake, record, verify=True)
