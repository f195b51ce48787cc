"""Which column is the rating, by its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import polars as pl

from rallrec_pipeline.datasets.checking.ids import NULL_WORDS
from rallrec_pipeline.datasets.drafting.names import is_named_otherwise
from rallrec_pipeline.datasets.drafting.samples import Sample
from rallrec_pipeline.datasets.drafting.values import MOST_STEPS, is_time, numbers_of

USUAL = ((5, 0.5), (10, 1.0), (100, 10.0))  # the highest value of a scale from 0, and its step
SMALL = 10  # continuous values up to here may be ratings
TAIL = 0.4  # share of the lowest value from which on falling shares are those of a count
NUMERIC = 0.9  # share of numbers in a column of numbers


class Likeness(Enum):
    """Whether numbers are ratings."""

    RATING = "rating"
    UNSURE = "unsure"
    NONE = "none"


@dataclass(frozen=True)
class RatingGuess:
    """What is taken for the rating, the columns of numbers that are left, and what a person has to decide."""

    column: str = ""
    left: list[str] = field(default_factory=list)
    question: str = ""


def guess_rating(sample: Sample, free: Sequence[str], ids: Sequence[str], is_log: bool) -> RatingGuess:
    """The rating among the columns `free`; none is taken from a log of events, whose numbers tell of the event.

    `ids` are the columns of users and items: what is the same in all rows of one is a property of it, and no rating.
    """
    numeric = [name for name in free if is_numeric(sample.frame[name]) and not is_time(sample.frame[name])]
    found = {name: _likeness(sample, name, ids) for name in numeric}
    sure = [name for name in numeric if found[name] is Likeness.RATING]
    unsure = [name for name in numeric if found[name] is Likeness.UNSURE]
    if is_log:
        sure, unsure = [], sure + unsure
    if not sure:
        return RatingGuess("", numeric, _ask_for_one(sample, unsure))
    sure.sort(key=lambda name: _is_yes_or_no(sample, name))  # a yes and no may tell anything
    taken = sure[0]
    rivals = [name for name in sure[1:] if not _is_yes_or_no(sample, name)]
    question = ""
    if rivals or _is_yes_or_no(sample, taken):
        also = f"; {', '.join(rivals)} may be it as well" if rivals else ""
        question = f"{sample.file}: is {taken} the rating? It is taken for it, as it holds {_held(sample, taken)}{also}"
    return RatingGuess(taken, [name for name in numeric if name != taken], question)


def likeness_of(numbers: pl.Series) -> Likeness:
    """Whether `numbers` (n,) are ratings, by how many differ, their scale, and how often each stands there."""
    counts = numbers.alias("value").value_counts().sort("value")
    values, often = counts["value"].to_list(), counts["count"].to_list()
    if len(values) < 2:
        return Likeness.NONE
    if len(values) > MOST_STEPS:
        whole = all(value == round(value) for value in values)
        return Likeness.UNSURE if not whole and values[0] >= 0 and values[-1] <= SMALL else Likeness.NONE
    if values == [0, 1]:
        return Likeness.RATING
    is_usual = len(values) > 2 and any(values[-1] == top and _is_on(values, step) for top, step in USUAL)
    falls = len(values) > 2 and often[0] > TAIL * sum(often) and often == sorted(often, reverse=True)
    if is_usual and values[0] >= 0 and not falls:
        return Likeness.RATING
    is_short = _is_on(values, 0.5) and max(map(abs, values)) <= MOST_STEPS
    may_be = is_short or (_is_on(values, 5) and values[-1] == 100)
    return Likeness.UNSURE if may_be else Likeness.NONE


def is_numeric(texts: pl.Series) -> bool:
    """Whether nearly all that `texts` (n,) hold are numbers."""
    known = texts.filter((texts != "") & ~texts.is_in(NULL_WORDS))
    return known.len() > 0 and numbers_of(known).len() >= NUMERIC * known.len()


def is_like_rating(sample: Sample, name: str) -> bool:
    """Whether the values of a column alone are those of ratings."""
    texts = sample.frame[name]
    return is_numeric(texts) and likeness_of(numbers_of(texts)) is Likeness.RATING


def _likeness(sample: Sample, name: str, ids: Sequence[str]) -> Likeness:
    if is_named_otherwise(name) or any(_is_property(sample, key, name) for key in ids):
        return Likeness.NONE
    return likeness_of(numbers_of(sample.frame[name]))


def _is_property(sample: Sample, key: str, name: str) -> bool:
    """Whether all rows of an id have one value, for each of three ids or more that have several rows."""
    pairs = sample.frame.select(id=pl.col(key), value=pl.col(name)).filter(pl.col("value") != "")
    groups = pairs.group_by("id").agg(pl.len().alias("rows"), pl.col("value").n_unique())
    several = groups.filter(pl.col("rows") > 1)["value"]
    return several.len() > 2 and several.max() == 1


def _is_on(values: Sequence[float], step: float) -> bool:
    return all(abs(value / step - round(value / step)) < 1e-6 for value in values)


def _is_yes_or_no(sample: Sample, name: str) -> bool:
    return numbers_of(sample.frame[name]).n_unique() == 2


def _ask_for_one(sample: Sample, unsure: Sequence[str]) -> str:
    if not unsure:
        return ""
    held = "; ".join(f"{name} holds {_held(sample, name)}" for name in unsure[:3])
    return (
        f"{sample.file}: is one of its columns the rating? {held}. None is taken, so that each row is a like; "
        "if one is, add `rating` to [interactions.columns], and the scale to [label]"
    )


def _held(sample: Sample, name: str) -> str:
    values = numbers_of(sample.frame[name]).unique().sort().to_list()
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown) if len(shown) <= 11 else f"{len(shown)} values from {shown[0]} to {shown[-1]}"
