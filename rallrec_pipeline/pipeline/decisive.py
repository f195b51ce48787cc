"""Settings that decide what stages make, where several stages, or a stage and its rows, depend on the same ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.descriptions import RENDERER_VERSION, template_of
from rallrec_pipeline.inference.methods import methods, rescoring_method
from rallrec_pipeline.inference.score import SCORING_VERSION
from rallrec_pipeline.pipeline.stage import ALWAYS
from rallrec_pipeline.settings import ROLES, PromptSettings, Role, Settings, essential

RECOMMENDING_VERSION = "2"  # raise it when the computing changes its output by more than rounding
BUDGET_VERSION = "2"  # the same of how tokens are counted where `recommendations.tokens_per_user` bounds them
HELD_OUT_VERSION = "1"  # the same of what the LLM is asked about users of the report
METHODS = ("prompts", "methods", "adapters", "retrievers", "only_methods", "reasoned", "merges")
ENGINE = ("model", *ROLES, "ray", "tuning", "descriptions", "retrieval", *METHODS)
"""What an engine is chosen by, and whether it fits this machine: its longest prompts are those of a method."""
ALL_SECTIONS = tuple(name for name in Settings.model_fields if name not in ALWAYS)
_OF_ENGINES = {"engine", "tensor_parallel", "gpu_memory", "tokens_per_batch", "deterministic"}
_NOT_IN_REPORT: dict[str, Any] = {
    "automation": True,
    "index": True,
    "ray": True,
    **dict.fromkeys(("model", *ROLES), _OF_ENGINES),
    "tuning": {"tokens_per_batch", "checkpoint_every"},
}
"""Settings that change no figure: a report is not made anew for them."""
_ELSEWHERE = ("reasoner", "reasoning", "reasoned", "merges", "recommendations", "serving")
"""Settings of which another report tells, or none."""


def numerics(settings: Settings, role: Role) -> dict[str, Any]:
    """Settings that change what the model of a role computes; the engine is none of them."""
    model = settings.role(role)
    return {"dtype": model.dtype, "load_in_8bit": model.infers_in_8bit}


def describing(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides how items are described; the template is that which the dataset's words make of the default."""
    asked = settings.descriptions.model_copy(update={"template": template_of(spec, settings.descriptions)})
    item = {"descriptions": asked, "words": spec.words, "fields": spec.item_fields}
    return numerics(settings, "writer") | item | {"seed": settings.seeds.sampling, "renderer": RENDERER_VERSION}


def prompting(settings: Settings) -> PromptSettings:
    """The settings of prompts without whose opinion they state: the table `expected_ratings` says that."""
    return settings.prompts.model_copy(update={"expected_by": PromptSettings().expected_by})


def wording(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
    """What decides how a prompt is worded."""
    return {"prompts": prompting(settings), "words": spec.words, "label": spec.label, "fields": spec.user_fields}


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
    budget = {"budget": BUDGET_VERSION} if settings.recommendations.tokens_per_user else {}
    return numerics(settings, "predictor") | wording(settings, spec) | way | merged | calibrated | budget


def reported(settings: Settings) -> dict[str, Any]:
    """The settings that a figure of the report on methods may depend on, defaults left out."""
    shown = {name: essential(getattr(settings, name)) for name in Settings.model_fields if name not in _ELSEWHERE}
    for name, hidden in _NOT_IN_REPORT.items():
        kept = {} if hidden is True else {key: v for key, v in (shown[name] or {}).items() if key not in hidden}
        shown[name] = kept
    return shown


def is_reported(name: str) -> bool:
    """Whether a figure of the report on methods may depend on the setting of the dotted `name`."""
    section, _, key = name.partition(".")
    hidden = _NOT_IN_REPORT.get(section, ())
    return section not in _ELSEWHERE and hidden is not True and key.split(".")[0] not in hidden


def with_sampling(seed: int, settings: Settings) -> dict[str, int]:
    """The seed of a stage that knows the few-shot draw too, whose seed is left out where it is the same.

    So results from before there were four seeds still hold.
    """
    sampling = settings.seeds.sampling
    return {"seed": seed} if sampling == seed else {"seed": seed, "sampling_seed": sampling}
