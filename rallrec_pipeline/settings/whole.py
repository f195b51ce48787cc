"""All sections together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from rallrec_pipeline.settings.llm import DescriptionSettings, PromptSettings, TuningSettings
from rallrec_pipeline.settings.methods import (
    DEFAULT_ADAPTERS,
    DEFAULT_METHODS,
    DEFAULT_RETRIEVERS,
    TAKEN,
    AdapterSettings,
    MethodName,
    MethodSettings,
    RetrieverSettings,
)
from rallrec_pipeline.settings.models import ModelSettings, Role
from rallrec_pipeline.settings.problems import did_you_mean
from rallrec_pipeline.settings.reasoning import (
    DEFAULT_MERGES,
    DEFAULT_REASONED,
    MergeSettings,
    ReasonedSettings,
    ReasoningSettings,
    require_no_circle,
)
from rallrec_pipeline.settings.recommending import RecommendationSettings
from rallrec_pipeline.settings.running import AutomationSettings, RaySettings
from rallrec_pipeline.settings.scoring import ExpertSettings, ScoringSettings
from rallrec_pipeline.settings.section import Section
from rallrec_pipeline.settings.seeds import SeedSettings, with_four_seeds
from rallrec_pipeline.settings.serving import ServingSettings
from rallrec_pipeline.settings.vectors import (
    AlignmentSettings,
    CollaborativeSettings,
    IndexSettings,
    MixtureSettings,
    RetrievalSettings,
    TextEmbeddingSettings,
)


class Settings(Section):
    """All sections of one profile or variant. `seed = N` at the top of a file stands for all four seeds."""

    profile: str = Field(description="Name of the profile or variant.")
    seeds: SeedSettings = SeedSettings()
    protocol: str = Field("five_core", description="Which of a dataset's protocols is in force.")
    model: ModelSettings = ModelSettings()
    writer: ModelSettings | None = Field(None, description="The LLM that describes items; None takes `model`.")
    encoder: ModelSettings | None = Field(
        None, description="What makes the text vectors, an LLM or a sentence encoder; None takes the writer."
    )
    predictor: ModelSettings | None = Field(None, description="The LLM that is tuned and asked; None takes `model`.")
    reasoner: ModelSettings | None = Field(None, description="The LLM that reasons (RALLRec+); None takes `model`.")
    descriptions: DescriptionSettings = DescriptionSettings()
    text: TextEmbeddingSettings = TextEmbeddingSettings()
    collaborative: CollaborativeSettings = CollaborativeSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    mixture: MixtureSettings = MixtureSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    index: IndexSettings = IndexSettings()
    prompts: PromptSettings = PromptSettings()
    retrievers: dict[MethodName, RetrieverSettings] = Field(
        DEFAULT_RETRIEVERS, description="Those in a file are added to the built-in ones, or replace them by name."
    )
    adapters: dict[MethodName, AdapterSettings] = Field(DEFAULT_ADAPTERS, description="As `retrievers`.")
    methods: dict[MethodName, MethodSettings] = Field(DEFAULT_METHODS, description="As `retrievers`.")
    only_methods: tuple[MethodName, ...] = Field(
        (), description="Methods that are scored, without any all; baselines always are."
    )
    tuning: TuningSettings = TuningSettings()
    scoring: ScoringSettings = ScoringSettings()
    experts: ExpertSettings = ExpertSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    reasoned: dict[MethodName, ReasonedSettings] = Field(DEFAULT_REASONED, description="As `retrievers`.")
    merges: dict[MethodName, MergeSettings] = Field(DEFAULT_MERGES, description="As `retrievers`.")
    recommendations: RecommendationSettings = RecommendationSettings()
    ray: RaySettings = RaySettings()
    automation: AutomationSettings = AutomationSettings()
    serving: ServingSettings = ServingSettings()

    @property
    def every_method(self) -> dict[str, object]:
        """All that can be scored, by name: methods of the LLM, baselines, reasoned methods, merges."""
        return {**self.methods, **dict.fromkeys(TAKEN["methods"]), **self.reasoned, **self.merges}

    def role(self, role: Role) -> ModelSettings:
        """The model that plays a role."""
        own: ModelSettings | None = getattr(self, role)
        if own is None and role == "encoder":
            own = self.writer
        return own or self.model

    def in_role(self, role: Role) -> Settings:
        """These settings with the role's model as `model`.

        What the reasoner writes has the sizes of `[reasoning]`, so that memory and context are held against these.
        """
        changed: dict[str, Any] = {"model": self.role(role)}
        if role == "reasoner":
            sizes = self.reasoning.model_dump(include={"max_new_tokens", "batch_size"})
            changed["descriptions"] = self.descriptions.model_copy(update=sizes)
        return self.model_copy(update=changed)

    @field_validator("retrievers", "adapters", "methods", "reasoned", "merges", mode="after")
    @classmethod
    def _with_built_in(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        built_in: dict[str, Any] = {
            "retrievers": DEFAULT_RETRIEVERS,
            "adapters": DEFAULT_ADAPTERS,
            "methods": DEFAULT_METHODS,
            "reasoned": DEFAULT_REASONED,
            "merges": DEFAULT_MERGES,
        }
        return {**built_in[str(info.field_name)], **given}

    @model_validator(mode="after")
    def _names_are_known(self) -> Settings:
        for name, method in self.methods.items():
            _require(f"methods.{name}: retriever", method.retriever, self.retrievers)
            _require(f"methods.{name}: adapter", method.adapter, self.adapters)
        for name, adapter in self.adapters.items():
            _require(f"adapters.{name}: retriever", adapter.retriever, self.retrievers)
        predicted = {**self.methods, **dict.fromkeys(TAKEN["methods"])}
        for name, asked in self.reasoned.items():
            _require(f"reasoned.{name}: retriever", asked.retriever, self.retrievers)
            _require(f"reasoned.{name}: told", asked.told, predicted)
        known = self.every_method
        for name, merge in self.merges.items():
            for member in (*merge.members, *merge.runs):
                _require(f"merges.{name}: members and runs", member, known)
        require_no_circle(self.merges)
        _require("recommendations: method", self.recommendations.method, {**self.methods, **self.merges})
        _require_of_two(self.recommendations, self.merges, self.methods)
        for name in self.only_methods:
            _require("only_methods", name, known)
        for name in self.serving.methods:
            _require("serving.methods", name, known)
        if twice := sorted(name for name in self.merges if name in self.reasoned or name in self.methods):
            raise ValueError(f"merges.{twice[0]}: this name is taken, choose another one")
        if twice := sorted(set(self.reasoned).intersection(self.methods)):
            raise ValueError(f"reasoned.{twice[0]}: this name is taken, choose another one")
        for kind, names in TAKEN.items():
            if taken := sorted(set(getattr(self, kind)).intersection(names)):
                raise ValueError(f"{kind}.{taken[0]}: this name is taken, choose another one")
        if len(set(self.only_methods)) < len(self.only_methods):
            raise ValueError("only_methods names a method twice")
        return self

    @model_validator(mode="before")
    @classmethod
    def _one_seed_is_four(cls, values: Any) -> Any:
        return with_four_seeds(values) if isinstance(values, Mapping) else values


def _require_of_two(
    chosen: RecommendationSettings, merges: Mapping[str, MergeSettings], methods: Mapping[str, MethodSettings]
) -> None:
    """Raises ValueError when users are recommended by a merge of anything but the expert and a method of the LLM."""
    merge = merges.get(chosen.method or "")
    if merge is None:
        return
    others = [member for member in merge.members if member != chosen.expert]
    is_plain = merge.kind in ("mean", "logistic") and not merge.uncertainty
    if not is_plain or len(merge.members) != 2 or len(others) != 1 or others[0] not in methods:
        raise ValueError(
            f"recommendations: the merge {chosen.method!r} cannot rank candidates: take a 'mean', or a 'logistic' "
            f"without uncertainty, of {chosen.expert!r} and a method of the LLM; the shortlist itself is the cascade"
        )


def _require(where: str, name: str | None, known: Mapping[str, object]) -> None:
    """Raises ValueError when a file names what it does not define."""
    if name is not None and name not in known:
        meant = did_you_mean(name, known) or f": there are {', '.join(known)}"
        raise ValueError(f"{where} {name!r} does not exist{meant}")
