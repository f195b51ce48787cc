"""One prompt from one sample: four prompt forms, two answer forms.

`yes_no` (the papers'): a chat turn that states profile, rated history and target and asks for yes or no.
`rating`: a list of ratings to be completed, `title: n` a line, the target last and left open.

Titles and profiles are untrusted text: `clean_text` takes away what could break a line or a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.text import clean_text
from rallrec_pipeline.settings import AnswerForm

YES_NO = ("Yes", "No")


@dataclass(frozen=True)
class RatedItem:
    """A history item as a prompt shows it; `mean` is None unless that fact is switched on."""

    title: str
    rating: float
    mean: float | None = None


@dataclass(frozen=True)
class PromptInput:
    """Everything that one prompt states. `history` is in the order in which it is shown."""

    title: str
    history: Sequence[RatedItem]
    profile: Mapping[str, str] = field(default_factory=dict)
    target_mean: float | None = None
    user_mean: float | None = None


@dataclass(frozen=True)
class Prompt:
    """`answer_offsets`: where in `text` the answers of the history stand (rating form only)."""

    text: str
    answer_offsets: tuple[int, ...] = ()


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


def render(sample: PromptInput, form: AnswerForm, spec: DatasetSpec) -> Prompt:
    """The prompt of `sample` in an answer form."""
    return _rating_prompt(sample, spec) if form == "rating" else _yes_no_prompt(sample, spec)


def _rating_prompt(sample: PromptInput, spec: DatasetSpec) -> Prompt:
    scale = spec.label.scale
    shown = ", average in brackets" if sample.target_mean is not None else ""
    mean = f" This user's average: {sample.user_mean:.1f}." if sample.user_mean is not None else ""
    text = f"{spec.words.item.capitalize()} ratings of one user from {scale[0]:g} to {scale[-1]:g}{shown}.{mean}\n"
    offsets = []
    for item in sample.history:
        text += _titled(item.title, item.mean) + ":"
        offsets.append(len(text))
        text += rating_text(item.rating) + "\n"
    return Prompt(text + _titled(sample.title, sample.target_mean) + ":", tuple(offsets))


def _yes_no_prompt(sample: PromptInput, spec: DatasetSpec) -> Prompt:
    words, top = spec.words, spec.label.scale[-1]
    profile = "; ".join(f"{name}: {clean_text(value, 60)}" for name, value in sample.profile.items() if value)
    if spec.is_implicit:
        chosen = ", ".join(_titled(item.title, item.mean) for item in sample.history)
        known = [f"{words.items.capitalize()} this user chose: {chosen}." if chosen else ""]
    else:
        rated = ", ".join(f"{_titled(i.title, i.mean)} ({rating_text(i.rating)} stars)" for i in sample.history)
        known = [
            f"{words.items.capitalize()} this user rated (out of {top:g} stars): {rated}." if rated else "",
            f"The user's average rating is {sample.user_mean:.1f}." if sample.user_mean is not None else "",
            f"More than {spec.label.like_above:g} stars means that the user likes a {words.item}.",
        ]
    lines = [
        f"User profile: {profile}." if profile else "",
        *known,
        f'Judging by this, will the user like the {words.item} "{_titled(sample.title, sample.target_mean)}"?',
        "Answer with Yes or No only.",
    ]
    return Prompt("\n".join(line for line in lines if line))


def _titled(title: str, mean: float | None) -> str:
    name = clean_text(title) or "untitled"
    return name if mean is None else f"{name} ({mean:.1f})"
