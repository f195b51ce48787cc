"""The LLM methods of a variant, as data: retriever, prompt form, answer form, facts, adapter (settings `[methods]`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from rallrec_pipeline.settings import (
    MIXTURE,
    AdapterSettings,
    AnswerForm,
    Fact,
    MergeSettings,
    MethodSettings,
    PromptForm,
    RetrieverSettings,
    Settings,
)

_HISTORY: dict[PromptForm, str] = {
    "recent": "recent history",
    "reranked": "retrieved history",
    "relevance": "most relevant history",
    "sequential": "relevant history in time order",
}
_ANSWER: dict[AnswerForm, str] = {"rating": "rating list", "yes_no": "yes/no"}


class Asked(NamedTuple):
    """What a prompt is made of besides its sample."""

    retriever: str
    prompt_form: PromptForm
    answer_form: AnswerForm
    facts: tuple[Fact, ...] = ()
    titles: bool = True

    def as_columns(self) -> dict[str, str | bool]:
        """These, as a table of prompts holds them."""
        return {**self._asdict(), "facts": "+".join(self.facts)}

    @property
    def rows(self) -> pl.Expr:
        """The rows of a table of prompts that are asked so."""
        return pl.all_horizontal(pl.col(column) == value for column, value in self.as_columns().items())


@dataclass(frozen=True)
class Method:
    """One method; `adapter` names the LoRA adapter laid over the model, None is zero-shot."""

    name: str
    title: str
    prompt_form: PromptForm
    answer_form: AnswerForm
    adapter: str | None = None
    retriever: str = MIXTURE
    facts: tuple[Fact, ...] = ()
    titles: bool = True

    @property
    def asked(self) -> Asked:
        """How it asks."""
        return Asked(self.retriever, self.prompt_form, self.answer_form, self.facts, self.titles)


@dataclass(frozen=True)
class ReasonedMethod:
    """One way to ask the reasoner; `told` names the method whose answer the prompt puts into words (eq. 9)."""

    name: str
    title: str
    asked: Asked
    told: str | None


def chosen_methods(settings: Settings) -> tuple[str, ...]:
    """Names of all that is predicted: `only_methods` and what these are made of, or all methods of the LLM.

    What the reasoner is told, and the members and runs of a merge, come before the one that needs them.
    """
    return _withneeds_of(settings.only_methods or tuple(settings.methods), settings)


def _withneeds_of(names: Iterable[str], settings: Settings) -> tuple[str, ...]:
    found: dict[str, None] = {}

    def take(name: str) -> None:
        for needed in needs_of(name, settings):
            take(needed)
        found.setdefault(name)

    for name in names:
        take(name)
    return tuple(found)


def needs_of(name: str, settings: Settings) -> tuple[str, ...]:
    """The methods that must answer first: members and runs of a merge, and what the reasoner is told."""
    if (merge := settings.merges.get(name)) is not None:
        return (*merge.members, *merge.runs)
    told = settings.reasoned[name].told if name in settings.reasoned else None
    return () if told is None else (told,)


def methods(settings: Settings) -> list[Method]:
    """The methods of the LLM that are scored, in the order in which they are."""
    return [
        _method(name, settings.methods[name], settings) for name in chosen_methods(settings) if name in settings.methods
    ]


def reasoned_methods(settings: Settings) -> list[ReasonedMethod]:
    """How the reasoner is asked: all ways, or with `only_methods` those that are needed."""
    chosen = chosen_methods(settings) if settings.only_methods else tuple(settings.reasoned)
    return [_reasoned(name, settings) for name in chosen if name in settings.reasoned]


def rescoring_method(settings: Settings) -> tuple[str | None, MergeSettings | None]:
    """The method of the LLM that is asked about shortlists, and how its answers are merged with the expert's."""
    name = settings.recommendations.method
    merge = settings.merges.get(name) if name else None
    if merge is None:
        return name, None
    return next(member for member in merge.members if member in settings.methods), merge


def merges(settings: Settings) -> dict[str, MergeSettings]:
    """What is merged, members before those that take them: all, or with `only_methods` those that are needed."""
    chosen = _withneeds_of(settings.only_methods or settings.merges, settings)
    return {name: settings.merges[name] for name in chosen if name in settings.merges}


def _reasoned(name: str, settings: Settings) -> ReasonedMethod:
    chosen = settings.reasoned[name]
    shared = chosen.model_dump(include={"retriever", "prompt_form", "answer_form", "facts"})
    method = _method(name, MethodSettings(**shared), settings)
    told = f", told the answer of {chosen.told}" if chosen.told else ""
    return ReasonedMethod(
        name, chosen.title or f"reasoning, {_HISTORY[chosen.prompt_form]}{told}", method.asked, chosen.told
    )


def adapters(settings: Settings) -> dict[str, AdapterSettings]:
    """The adapters that the scored methods use, in the order of the settings."""
    used = {method.adapter for method in methods(settings)}
    return {name: adapter for name, adapter in settings.adapters.items() if name in used}


def retrievers(settings: Settings) -> dict[str, RetrieverSettings]:
    """The retrievers that scored methods and their adapters use, in the order of the settings; one at least."""
    used = {method.retriever for method in methods(settings)} or {MIXTURE}
    used |= {method.asked.retriever for method in reasoned_methods(settings)}
    used |= {adapter.retriever for adapter in adapters(settings).values()}
    return {name: retriever for name, retriever in settings.retrievers.items() if name in used}


def shown_items(retriever: str, settings: Settings) -> int:
    """K: how many history items a prompt of a retriever shows at most."""
    return settings.retrievers[retriever].k or settings.retrieval.history_length


def tuning_asked(adapter: str, settings: Settings) -> list[Asked]:
    """How an adapter's training samples are asked, in each of its prompt forms."""
    forms = settings.adapters[adapter].forms or settings.prompts.augmentation
    validated = validation_method(adapter, settings).asked
    return [validated._replace(prompt_form=form) for form in dict.fromkeys(forms)]


def validation_method(adapter: str, settings: Settings) -> Method:
    """How an adapter is asked on validation rows while it is tuned: as it is used."""
    chosen = settings.adapters[adapter]
    asked = MethodSettings(
        retriever=chosen.retriever,
        prompt_form=chosen.validation_form,
        answer_form=chosen.answer_form,
        facts=chosen.facts,
        titles=chosen.titles,
        adapter=adapter,
    )
    return _method(adapter, asked, settings)


def _method(name: str, chosen: MethodSettings, settings: Settings) -> Method:
    own = settings.prompts.answer_form
    answer = chosen.answer_form or own
    facts = chosen.facts
    if facts is None:  # facts belong to the variant's own answer form; the other one is asked plainly
        facts = settings.prompts.facts if answer == own else ()
    title = chosen.title or _title(chosen, answer, facts)
    return Method(name, title, chosen.prompt_form, answer, chosen.adapter, chosen.retriever, facts, chosen.titles)


def _title(chosen: MethodSettings, answer: AnswerForm, facts: tuple[Fact, ...]) -> str:
    who = f"tuned ({chosen.adapter})" if chosen.adapter else "zero-shot"
    named = " and ".join(fact.replace("_", " ") for fact in facts)
    stated = f" with {named}" if named else ""
    by = f" by {chosen.retriever}" if chosen.retriever != MIXTURE and chosen.prompt_form != "recent" else ""
    hidden = "" if chosen.titles else ", without titles"
    return f"{who}, {_ANSWER[answer]}{stated}, {_HISTORY[chosen.prompt_form]}{by}{hidden}"
