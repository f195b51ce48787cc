"""All prompts of a dataset from its retrieved histories: the tables `tuning_prompts` and `evaluation_prompts`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.tables import PROMPT_COLUMNS
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.prompts.render import (
    mean_text,
    rating_text,
    render,
    shown_profile,
    shown_title,
    texts_of,
    true_answer,
)
from rallrec_pipeline.settings import LONGEST_TITLE, AnswerForm, PromptForm

# What each form takes from the table `retrieved_histories`.
HISTORY_COLUMN: dict[PromptForm, str] = {
    "recent": "recent",
    "relevance": "relevant",
    "sequential": "sequential",
    "reranked": "reranked",
}
BEST_FIRST: frozenset[PromptForm] = frozenset({"relevance", "reranked"})


_CALLED = {"mean": "average", "expected": "expected rating"}


@dataclass(frozen=True)
class PromptContext:
    """What prompts state beside the histories, as they show it.

    `titles` has item_id and title, `profiles` user_id and profile; facts are there if switched on.
    """

    spec: DatasetSpec
    titles: pl.DataFrame
    profiles: pl.DataFrame
    facts: Facts


def prompt_context(
    spec: DatasetSpec,
    items: pl.DataFrame,
    users: pl.DataFrame,
    facts: Facts,
    title_characters: int = LONGEST_TITLE,
) -> PromptContext:
    """From the tables `core_items` and `users`; only users who are asked about need to be in it."""
    shown = [shown_title(title, title_characters) for title in items["title"]]
    titles = pl.DataFrame({"item_id": items["item_id"], "title": shown})
    fields = [name for name in spec.user_fields if name in users.columns]
    known = [shown_profile(dict(zip(fields, row, strict=True))) for row in users.select(fields).iter_rows()]
    profile = pl.Series("profile", known or [""] * users.height, dtype=pl.String)  # without fields there are no rows
    return PromptContext(spec, titles, users.select("user_id").with_columns(profile), facts)


def without_titles(context: PromptContext) -> PromptContext:
    """The same with "A movie" (the dataset's word) as the title of every item: what is left is ratings."""
    word = context.spec.words.item
    hidden = pl.lit(f"{'An' if word[:1].lower() in set('aeiou') else 'A'} {word}").alias("title")
    return replace(context, titles=context.titles.with_columns(hidden))


def build_prompts(
    histories: pl.DataFrame,
    context: PromptContext,
    prompt_forms: Sequence[PromptForm],
    answer_forms: Sequence[AnswerForm],
) -> pl.DataFrame:
    """One prompt per sample, prompt form and answer form, in the columns of `PROMPT_COLUMNS`.

    Raises DataError for an item that `context` has no title of.
    """
    samples = _samples(histories, context)
    made = [
        _prompts_of(samples, histories, context, prompt_form, answer_form)
        for prompt_form in prompt_forms
        for answer_form in answer_forms
    ]
    return pl.concat([pl.DataFrame(schema=PROMPT_COLUMNS), *made])


def _prompts_of(
    samples: pl.DataFrame,
    histories: pl.DataFrame,
    context: PromptContext,
    prompt_form: PromptForm,
    answer_form: AnswerForm,
) -> pl.DataFrame:
    shown = _shown_history(histories, context, prompt_form, answer_form)
    answers = texts_of(histories["rating"], lambda rating: true_answer(answer_form, context.spec, rating))
    return (
        histories.hstack(render(samples, shown, answer_form, context.spec))
        .with_columns(
            pl.lit(prompt_form).alias("prompt_form"), pl.lit(answer_form).alias("answer_form"), answers.alias("answer")
        )
        .select(pl.col(name).cast(kind) for name, kind in PROMPT_COLUMNS.items())
    )


def _samples(histories: pl.DataFrame, context: PromptContext) -> pl.DataFrame:
    """What `render` wants to know of each sample."""
    rows = _with_titles(histories.select("sample_id", "user_id", "item_id"), context)
    rows = rows.join(context.profiles, on="user_id", how="left", maintain_order="left")
    return rows.select(
        "title",
        pl.col("profile").fill_null(""),
        *_in_brackets(context.facts.target_mean(histories["sample_id"]), context.facts.expected_rating(histories)),
        texts_of(context.facts.user_mean(histories["sample_id"]), mean_text).alias("user_mean"),
    )


def _shown_history(
    histories: pl.DataFrame, context: PromptContext, prompt_form: PromptForm, answer_form: AnswerForm
) -> pl.DataFrame:
    """The history items of all samples, in the order in which `render` shows them."""
    name = HISTORY_COLUMN[prompt_form]
    ids, ratings = pl.col(name), pl.col(f"{name}_ratings")
    if answer_form == "rating" and prompt_form in BEST_FIRST:
        ids, ratings = (
            ids.list.reverse(),
            ratings.list.reverse(),
        )  # completed from its end: the most relevant stands last
    lists = histories.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias("row"), "user_id", ids.alias("item_id"), ratings.alias("rating")
    )
    rows = lists.filter(pl.col("item_id").list.len() > 0).explode("item_id", "rating")
    numbers, _ = _in_brackets(context.facts.history_mean(rows), context.facts.expected_rating(rows))
    rating = texts_of(rows["rating"], rating_text).alias("rating")
    return _with_titles(rows, context).select("row", "title", rating, numbers)


def _in_brackets(means: pl.Series, expected: pl.Series) -> tuple[pl.Series, pl.Series]:
    """`numbers`, what stands in brackets behind a title, and `called`, what it is; null where nothing is known."""
    known = pl.DataFrame({"mean": texts_of(means, mean_text), "expected": texts_of(expected, mean_text)})
    names = [pl.when(pl.col(name).is_not_null()).then(pl.lit(word)) for name, word in _CALLED.items()]
    nothing = pl.all_horizontal(pl.col("mean", "expected").is_null())
    found = known.select(
        pl.when(~nothing).then(pl.concat_str("mean", "expected", separator=", ", ignore_nulls=True)).alias("numbers"),
        pl.when(~nothing).then(pl.concat_str(names, separator=" and ", ignore_nulls=True)).alias("called"),
    )
    return found["numbers"], found["called"]


def _with_titles(rows: pl.DataFrame, context: PromptContext) -> pl.DataFrame:
    titled = rows.join(context.titles, on="item_id", how="left", maintain_order="left")
    if titled["title"].null_count():
        unknown = titled.filter(pl.col("title").is_null())["item_id"][0]
        raise DataError(f"item {unknown!r} is not in core_items: run `rallrec run` again from core_items on")
    return titled
