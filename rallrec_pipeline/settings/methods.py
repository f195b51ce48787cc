"""Retrievers, adapters and methods: a name in a file each, and the built-in ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rallrec_pipeline.settings.llm import AnswerForm, Fact, PromptForm
from rallrec_pipeline.settings.section import Section
from rallrec_pipeline.settings.seeds import Seed
from rallrec_pipeline.settings.vectors import RelevanceKind

MIXTURE = "mixture"
"""The retriever by the variant's own mixture of eq. 7."""
METHOD_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
MethodName = Annotated[str, Field(pattern=METHOD_NAME)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
TAKEN = {
    "methods": (
        *("item_mean", "user_mean", "recent_mean", "logistic_regression", "boosted_trees"),  # baselines
        *("prompt_logistic", "lightgcn", "text_knn", "item_knn", "factorisation"),  # experts, and all together:
        *("expert_logistic", "expert_trees", "text_logistic", "text_trees"),
        *("deepfm", "xdeepfm", "dcn", "autoint", "deepfm_few", "xdeepfm_few", "dcn_few", "autoint_few"),
    ),
    "adapters": ("llm", "why", "machine", "engine"),  # what a record says beside its adapters
}
"""Names that methods and adapters cannot have."""


class RetrieverSettings(Section):
    """Which vectors choose the relevant history, and how much of it a prompt shows."""

    parts: dict[RelevanceKind, Weight] = Field({}, description="Weights of eq. 7; without them those of `[mixture]`.")
    combine: Literal["vectors", "softmax", "quota"] = Field(
        "vectors",
        description="`vectors`: mix, then retrieve (eq. 7). `softmax`: retrieve, then mix the similarities as shares "
        "of the history. `quota`: (K + 1) // 2 items by the first part, the others by the second.",
    )
    k: int | None = Field(None, gt=0, description="History items in a prompt; None takes `retrieval.history_length`.")
    strictly_earlier: bool = Field(False, description="Leave out history of the target's own second.")
    reranker: Literal["fixed", "learned"] | None = Field(None, description="None takes `retrieval.reranker`.")

    @model_validator(mode="after")
    def _has_parts_to_combine(self) -> RetrieverSettings:
        if self.parts and not any(self.parts.values()):
            raise ValueError("at least one of its parts must weigh more than 0")
        if self.combine == "quota" and len(self.parts) != 2:
            raise ValueError("combine = 'quota' takes two parts")
        if self.combine == "softmax" and not self.parts:
            raise ValueError("combine = 'softmax' needs parts")
        return self


class AdapterSettings(Section):
    """A LoRA adapter: which prompts it is tuned on. Another retriever of a method tunes no adapter again."""

    retriever: MethodName = MIXTURE
    forms: tuple[PromptForm, ...] = Field((), description="Prompt forms; without them those of `prompts.augmentation`.")
    repeats: int = Field(
        1, gt=0, description="Times that each prompt enters an epoch: so adapters of fewer forms take as many steps."
    )
    validation_form: PromptForm = Field("reranked", description="Prompt form of the validation rows.")
    answer_form: AnswerForm | None = Field(None, description="As of a method.")
    facts: tuple[Fact, ...] | None = Field(None, description="As of a method.")
    titles: bool = Field(True, description="As of a method.")
    seed: Seed | None = Field(None, description="Of its weights and steps; None takes `seeds.tuning`.")


class MethodSettings(Section):
    """One way to ask the LLM; a row of the report."""

    title: str = Field("", max_length=120, description="How the report calls it; without one it says what it is.")
    retriever: MethodName = MIXTURE
    prompt_form: PromptForm = Field("reranked", description="Which history, in which order.")
    answer_form: AnswerForm | None = Field(None, description="None takes `prompts.answer_form`.")
    facts: tuple[Fact, ...] | None = Field(
        None, description="None takes `prompts.facts` where the answer form is that of `prompts`, else none."
    )
    titles: bool = Field(True, description="Off: every title is replaced, so that ratings are all a prompt tells.")
    adapter: MethodName | None = Field(None, description="The adapter laid over the model; None is zero-shot.")


DEFAULT_RETRIEVERS = {MIXTURE: RetrieverSettings()}
DEFAULT_ADAPTERS = {
    "recent": AdapterSettings(forms=("recent",), repeats=3, validation_form="recent"),
    "rallrec": AdapterSettings(),
}
DEFAULT_METHODS = {
    "rallrec": MethodSettings(title="RALLRec: tuned, retrieved and reranked", adapter="rallrec"),
    "recent": MethodSettings(title="tuned, recent history (no retrieval)", prompt_form="recent", adapter="recent"),
    "zero_shot": MethodSettings(title="without tuning (zero-shot)"),
}
