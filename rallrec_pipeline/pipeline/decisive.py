"""Settings that decide what stages make, where several stages, or a stage and its rows, depend on the same ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import template_of
from rallrec_pipeline.inference.methods import methods, rescoring_method
from rallrec_pipeline.inference.score import SCORING_VERSION
from rallrec_pipeline.settings import DescriptionSettings, Role, Settings

RECOMMENDING_VERSION = "2"  # raise it when the computing changes its output by more than rounding
HELD_OUT_VERSION = "1"  # the same of what the LLM is asked about users of the report


def numerics(settings: Settings, role: Role) -> dict[str, Any]:
    """Settings that change what the model of a role computes; the engine is none of them."""
    model = settings.role(role)
    return {"dtype": model.dtype, "load_in_8bit": model.infers_in_8bit}


def descriptions_of(settings: Settings, spec: DatasetSpec) -> DescriptionSettings:
    """With the template that the dataset's words and fields make of the default."""
    return settings.descriptions.model_copy(update={"template": template_of(spec, settings.descriptions)})


def wording(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides how a prompt is worded."""
    return {"prompts": settings.prompts, "words": spec.words, "label": spec.label, "fields": spec.user_fields}


def asked(settings: Settings) -> dict[str, Any]:
    """How each scored method asks; what the report calls it is no part of it."""
    return {method.name: {k: v for k, v in asdict(method).items() if k != "title"} for method in methods(settings)}


def recommending(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides what the stage `recommendations` makes."""
    held_out = {"users": settings.recommendations.report_users, "version": HELD_OUT_VERSION}
    asks = settings.recommendations.method is not None
    return recommending_users(settings, spec) | ({"held_out": held_out} if asks else {})


def recommending_users(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides what users are recommended."""
    return {
        "recommendations": settings.recommendations.model_copy(update={"report_users": 0}),
        "retrieval": settings.retrieval,
        "experts": settings.experts.model_copy(update={"deep": True}),
        "collaborative": settings.collaborative.graph,
        "protocol": spec.protocol,
        "label": spec.label,
        "seeds": (settings.seeds.data, settings.seeds.fits),
        "version": RECOMMENDING_VERSION,
        **(_rescored(settings, spec) if settings.recommendations.method else {}),
    }


def _rescored(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides how a method of the LLM scores the shortlist of a user."""
    name, merge = rescoring_method(settings)
    way = {"asked": asked(settings).get(str(name)), "scoring": SCORING_VERSION}
    merged = {"merge": merge.model_copy(update={"title": ""})} if merge else {}
    calibrated = {"calibration": settings.scoring.calibration}
    return numerics(settings, "predictor") | wording(settings, spec) | way | merged | calibrated
