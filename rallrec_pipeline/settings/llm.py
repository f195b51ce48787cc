"""What the LLM is asked and tuned for: descriptions, prompts, LoRA."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from rallrec_pipeline.settings.section import Section

AnswerForm = Literal["yes_no", "rating"]
PromptForm = Literal["recent", "relevance", "sequential", "reranked"]
Fact = Literal["item_mean", "user_mean", "expected_rating"]
ExpectedBy = Literal["factorisation", "experts"]
LONGEST_TITLE = 160  # characters
TEMPLATE_GAP = re.compile(r"{(item|max_words|fields)}")


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


class PromptSettings(Section):
    """Wording and samples."""

    answer_form: AnswerForm = Field("yes_no", description="Answer form of the tuned methods.")
    facts: tuple[Fact, ...] = Field((), description="What prompts state as facts, all out of time.")
    expected_by: ExpectedBy = Field(
        "factorisation",
        description="Whose opinion the fact `expected_rating` is: that of the factorisation, or a ridge regression on "
        "means, factorisation and item kNN.",
    )
    train_samples: int = Field(8192, gt=0, description="Few-shot training samples.")
    validation_samples: int = Field(512, gt=0, description="Random validation rows (best epoch, calibration).")
    test_samples: int = Field(0, ge=0, description="Random test rows; 0 takes the whole test split.")
    augmentation: tuple[PromptForm, ...] = Field(
        ("relevance", "sequential", "recent"), description="Prompt forms a training sample enters in."
    )
    title_characters: int = Field(
        LONGEST_TITLE,
        ge=8,
        le=LONGEST_TITLE,
        description="Longer titles are cut: what stands in them beyond a name, as an instruction, is lost.",
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
