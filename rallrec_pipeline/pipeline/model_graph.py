"""The models, a stage a role. They have no dataset."""

from __future__ import annotations

from typing import Any

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.language_models.models import model_state
from rallrec_pipeline.pipeline.decisive import ENGINE
from rallrec_pipeline.pipeline.stage import Stage
from rallrec_pipeline.pipeline.stages import models
from rallrec_pipeline.settings import ROLES, Role, Settings

_SAYS: dict[Role, str] = {
    "writer": "The LLM that describes items, as safetensors with its tokenizer.",
    "encoder": "The model that makes text vectors: an LLM or a sentence encoder.",
    "predictor": "The LLM that is tuned and asked, as safetensors with its tokenizer.",
    "reasoner": "The LLM that thinks before it answers, as safetensors with its tokenizer.",
}


def role_model(role: Role) -> Stage:
    """The stage of the model of a role."""

    def decisive(settings: Settings, spec: DatasetSpec) -> dict[str, Any]:
        model = settings.role(role)
        return {"source": model.source, "name": model.name, "state": model_state(model)}

    sections = (*ENGINE, "reasoner", "reasoning") if role == "reasoner" else ENGINE
    return Stage(role, "models", (), _SAYS[role], models.role_model, decisive, sections, partitioned=False, role=role)


MODELS: tuple[Stage, ...] = tuple(role_model(role) for role in ROLES)
"""All but the reasoner, which only the stages of `reasoning_graph.py` need."""
