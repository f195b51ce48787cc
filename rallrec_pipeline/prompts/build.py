"""All prompts of a dataset from its retrieved histories: the tables `tuning_prompts` and `evaluation_prompts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.tables import PROMPT_COLUMNS
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.prompts.render import PromptInput, RatedItem, render, true_answer
from rallrec_pipeline.settings import AnswerForm, PromptForm

# What each form takes from the table `retrieved_histories`.
HISTORY_COLUMN: dict[PromptForm, str] = {
    "recent": "recent",
    "relevance": "relevant",
    "sequential": "sequential",
    "reranked": "reranked",
}
BEST_FIRST: frozenset[PromptForm] = frozenset({"relevance", "reranked"})


@dataclass(frozen=True)
class PromptContext:
    """What prompts state beside the histories: titles and profiles by id, and facts if switched on."""

    spec: DatasetSpec
    titles: Mapping[str, str]
    profiles: Mapping[str, Mapping[str, str]]
    facts: Facts


def prompt_context(spec: DatasetSpec, items: pl.DataFrame, users: pl.DataFrame, facts: Facts) -> PromptContext:
    """Look-ups from the tables `core_items` and `users`."""
    titles = dict(zip(items["item_id"], items["title"], strict=True))
    fields = [name for name in spec.user_fields if name in users.columns]
    profiles = {row["user_id"]: {f: row[f] or "" for f in fields} for row in users.iter_rows(named=True)}
    return PromptContext(spec, titles, profiles, facts)


def build_prompts(
    histories: pl.DataFrame,
    context: PromptContext,
    prompt_forms: Sequence[PromptForm],
    answer_forms: Sequence[AnswerForm],
) -> pl.DataFrame:
    """One prompt per sample, prompt form and answer form, in the columns of `PROMPT_COLUMNS`."""
    rows = [
        _prompt_row(sample, context, prompt_form, answer_form)
        for prompt_form in prompt_forms
        for answer_form in answer_forms
        for sample in histories.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, schema=dict(PROMPT_COLUMNS), orient="row")


def _prompt_row(
    sample: Mapping[str, object], context: PromptContext, prompt_form: PromptForm, answer_form: AnswerForm
) -> list[object]:
    prompt = render(_prompt_input(sample, context, prompt_form, answer_form), answer_form, context.spec)
    made: dict[str, object] = {
        "prompt_form": prompt_form,
        "answer_form": answer_form,
        "prompt": prompt.text,
        "answer": true_answer(answer_form, context.spec, float(str(sample["rating"]))),
        "answer_offsets": list(prompt.answer_offsets),
    }
    return [made[name] if name in made else sample[name] for name in PROMPT_COLUMNS]


def _prompt_input(
    sample: Mapping[str, object], context: PromptContext, prompt_form: PromptForm, answer_form: AnswerForm
) -> PromptInput:
    column = HISTORY_COLUMN[prompt_form]
    history = list(zip(_list(sample[column]), _list(sample[f"{column}_ratings"]), strict=True))
    if answer_form == "rating" and prompt_form in BEST_FIRST:
        history.reverse()  # a list is completed from its end: the most relevant line stands last
    user, item, facts = str(sample["user_id"]), str(sample["item_id"]), context.facts
    return PromptInput(
        title=context.titles[item],
        history=[RatedItem(context.titles[i], r, facts.history_mean(user, i, r)) for i, r in history],
        profile=context.profiles.get(user, {}),
        target_mean=facts.target_mean(int(str(sample["sample_id"]))),
        user_mean=facts.user_mean(int(str(sample["sample_id"]))),
    )


def _list(value: object) -> list:  # type: ignore[type-arg]
    assert isinstance(value, list)
    return value
