"""Prompts as text, all samples of a table at once: two answer forms.

`yes_no` (the papers'): a chat turn that states profile, rated history and target and asks for yes or no.
`rating`: a list of ratings to be completed, `title: n` a line, the target last and left open.

Titles and profiles are untrusted text: `shown_title` and `shown_profile` take away what could break a line or a chat
template. What is rendered has gone through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.lists import consecutive_lists
from rallrec_pipeline.settings import LONGEST_TITLE, AnswerForm
from rallrec_pipeline.text import clean_text

YES_NO = ("Yes", "No")
MAX_PROFILE = 60  # characters of one field of a profile


def answer_texts(form: AnswerForm, spec: DatasetSpec) -> tuple[str, ...]:
    """The answers of a form: Yes and No, or every value of the scale."""
    return YES_NO if form == "yes_no" else tuple(rating_text(value) for value in spec.label.scale)


def is_liked(form: AnswerForm, spec: DatasetSpec) -> tuple[bool, ...]:
    """Which of `answer_texts` mean that the user likes the target."""
    if form == "yes_no":
        return (True, False)
    return tuple(value > spec.label.like_above for value in spec.label.scale)


def true_answer(form: AnswerForm, spec: DatasetSpec, rating: float) -> str:
    """The answer that is right for a sample with this rating."""
    if form == "yes_no":
        return YES_NO[0] if rating > spec.label.like_above else YES_NO[1]
    return rating_text(rating)


def rating_text(rating: float) -> str:
    """A rating as the scale writes it."""
    return f"{rating:g}"


def mean_text(mean: float) -> str:
    """A mean rating as prompts state it."""
    return f"{mean:.1f}"


def shown_title(title: str | None, characters: int = LONGEST_TITLE) -> str:
    """A title as prompts show it, cut to a length."""
    return clean_text(title or "", characters) or "untitled"


def shown_profile(profile: Mapping[str, str | None]) -> str:
    """The known fields of a profile as prompts show them; empty where none is known."""
    return "; ".join(f"{name}: {clean_text(value, MAX_PROFILE)}" for name, value in profile.items() if value)


def texts_of(values: pl.Series, write: Callable[[float], str]) -> pl.Series:
    """`write` of each value, called once for each that is different; null stays null."""
    known = values.drop_nulls().unique()
    texts = pl.Series([write(value) for value in known.to_list()], dtype=pl.String)
    return values.replace_strict(known, texts, default=None, return_dtype=pl.String)


def render(samples: pl.DataFrame, history: pl.DataFrame, form: AnswerForm, spec: DatasetSpec) -> pl.DataFrame:
    """The prompt of each sample, in order: `prompt`, and `answer_offsets` (List(Int32)).

    `samples` has `title` (of the target), `profile`, `user_mean`, `numbers` (what stands in brackets behind the title)
    and `called` (what these numbers are), null where not stated. `history` has a row for each history item: `row`
    (place of its sample, ascending), `title`, `rating` and `numbers`, in the order in which it is shown. All but `row`
    is text. `answer_offsets` says at which characters of the prompt the
    ratings of the history stand (rating form; else empty).
    """
    return _rating_prompts(samples, history, spec) if form == "rating" else _yes_no_prompts(samples, history, spec)


def _rating_prompts(samples: pl.DataFrame, history: pl.DataFrame, spec: DatasetSpec) -> pl.DataFrame:
    scale, what = spec.label.scale, spec.words.item.capitalize()
    means = pl.concat_str(pl.lit(", "), "called", pl.lit(" in brackets")).fill_null("")
    average = pl.concat_str(pl.lit(" This user's average: "), "user_mean", pl.lit(".")).fill_null("")
    head = [pl.lit(f"{what} ratings of one user from {scale[0]:g} to {scale[-1]:g}"), means, pl.lit("."), average]
    heads = samples.select(pl.concat_str(*head, pl.lit("\n"))).to_series()
    before = heads.str.len_chars().gather(history["row"])  # characters in front of the first line
    lines = history.select(
        "row",
        pl.concat_str(_titled(history), pl.lit(":")).alias("name"),
        pl.concat_str("rating", pl.lit("\n")).alias("answer"),
    )
    length = pl.col("name").str.len_chars() + pl.col("answer").str.len_chars()
    end = length.cum_sum().over("row") - pl.col("answer").str.len_chars()
    offsets = lines.select((end + before).cast(pl.Int32).alias("answer_offsets")).to_series()
    counts = _history_lengths(samples, history)
    shown = consecutive_lists(lines.select(pl.concat_str("name", "answer")).to_series(), counts).list.join("")
    prompt = pl.concat_str(heads, shown, _titled(samples), pl.lit(":")).alias("prompt")
    return samples.select(prompt, consecutive_lists(offsets, counts))


def _yes_no_prompts(samples: pl.DataFrame, history: pl.DataFrame, spec: DatasetSpec) -> pl.DataFrame:
    rated = pl.concat_str(_titled(history), pl.lit(" ("), "rating", pl.lit(" stars)"))
    shown = _titled(history) if spec.is_implicit else rated
    lists = consecutive_lists(history.select(shown).to_series(), _history_lengths(samples, history))
    joined = pl.when(lists.list.len() > 0).then(lists.list.join(", ")).alias("shown")
    lines = [_profile(), *_known(spec), *_question(samples, spec)]
    empty = pl.lit([], pl.List(pl.Int32)).alias("answer_offsets")
    rows = samples.with_columns(joined)
    return rows.select(pl.concat_str(*lines, separator="\n", ignore_nulls=True).alias("prompt"), empty)


def _profile() -> pl.Expr:
    return pl.when(pl.col("profile") != "").then(pl.concat_str(pl.lit("User profile: "), "profile", pl.lit(".")))


def _known(spec: DatasetSpec) -> list[pl.Expr]:
    """What is known of the user, a line each; null where nothing is."""
    words, top = spec.words, spec.label.scale[-1]
    if spec.is_implicit:
        return [pl.concat_str(pl.lit(f"{words.items.capitalize()} this user chose: "), "shown", pl.lit("."))]
    rated = f"{words.items.capitalize()} this user rated (out of {top:g} stars): "
    return [
        pl.concat_str(pl.lit(rated), "shown", pl.lit(".")),
        pl.concat_str(pl.lit("The user's average rating is "), "user_mean", pl.lit(".")),
        pl.lit(f"More than {spec.label.like_above:g} stars means that the user likes a {words.item}."),
    ]


def _question(samples: pl.DataFrame, spec: DatasetSpec) -> list[pl.Expr]:
    asked = pl.lit(f'Judging by this, will the user like the {spec.words.item} "')
    return [
        pl.concat_str(asked, _titled(samples), pl.lit('"?')),
        pl.lit("Answer with Yes or No only."),
    ]


def _history_lengths(samples: pl.DataFrame, history: pl.DataFrame) -> NDArray[np.int64]:
    """How many rows of `history` each sample has, (samples,)."""
    return np.bincount(history["row"].to_numpy(), minlength=samples.height)


def _titled(frame: pl.DataFrame) -> pl.Expr:
    """The title, with its numbers in brackets where there are any."""
    if frame["numbers"].null_count() == frame.height:
        return pl.col("title")
    return pl.concat_str("title", pl.concat_str(pl.lit(" ("), "numbers", pl.lit(")")).fill_null(""))
