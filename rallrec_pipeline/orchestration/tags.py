"""Which settings, model and numbers a run works with: tags of the run, and metadata of what it makes."""

from __future__ import annotations

from rallrec_pipeline.language_models.dtypes import fetched_dtype, resolve_dtype
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.readiness import model_record
from rallrec_pipeline.settings import Role

PREFIX = "rallrec/"


def origin_of(run: StageRun, role: Role) -> dict[str, str]:
    """Name of the profile or variant, of the model of `role`, and its number type."""
    settings = run.settings.in_role(role)
    dtype = resolve_dtype(fetched_dtype(settings.model, model_record(run.lake, settings)))
    return {"profile": run.settings.profile, "model": settings.model.name, "dtype": dtype}


def run_tags(run: StageRun) -> dict[str, str]:
    """The same of the model that is tuned and asked, as tags of a run: they tell, and decide nothing."""
    return {f"{PREFIX}{name}": value for name, value in origin_of(run, "predictor").items()}
