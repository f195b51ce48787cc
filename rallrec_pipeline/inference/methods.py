"""The LLM methods of the evaluation report: prompt form, answer form, adapter."""

from __future__ import annotations

from dataclasses import dataclass

from rallrec_pipeline.settings import AnswerForm, PromptForm, Settings


@dataclass(frozen=True)
class Method:
    """`adapter` names the LoRA adapter laid over the model; None is zero-shot."""

    name: str
    title: str
    prompt_form: PromptForm
    answer_form: AnswerForm
    adapter: str | None = None


ADAPTERS: dict[str, tuple[PromptForm, ...]] = {"recent": ("recent",), "rallrec": ()}
"""Prompt forms that each adapter is tuned on; `rallrec` takes the forms of `prompts.augmentation`."""


def methods(settings: Settings) -> list[Method]:
    """All LLM methods, in the order in which they are scored; the zero-shot ones in both answer forms."""
    tuned = settings.prompts.answer_form
    named = " and ".join(fact.replace("_", " ") for fact in settings.prompts.facts)
    stated = f" with {named}" if named else ""
    facts = {"yes_no": "", "rating": ""} | {tuned: stated}
    return [
        Method("rallrec", "RALLRec: tuned, retrieved and reranked", "reranked", tuned, "rallrec"),
        Method("recent", "tuned, recent history (no retrieval)", "recent", tuned, "recent"),
        Method("zero_shot_rating", f"zero-shot, rating list{facts['rating']}, retrieved history", "reranked", "rating"),
        Method(
            "zero_shot_rating_recent", f"zero-shot, rating list{facts['rating']}, recent history", "recent", "rating"
        ),
        Method("zero_shot_yes_no", f"zero-shot, yes/no{facts['yes_no']}, retrieved history", "reranked", "yes_no"),
        Method("zero_shot_yes_no_recent", f"zero-shot, yes/no{facts['yes_no']}, recent history", "recent", "yes_no"),
    ]


def tuning_forms(adapter: str, settings: Settings) -> tuple[PromptForm, ...]:
    """Prompt forms that a training sample enters in, for one adapter."""
    return ADAPTERS[adapter] or settings.prompts.augmentation
