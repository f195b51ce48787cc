"""What a response holds: its thought, the answer in its own words, and what is wrong with it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from rallrec_pipeline.language_models.tokens import THINKING, THOUGHT
from rallrec_pipeline.prompts.render import YES_NO
from rallrec_pipeline.settings import AnswerForm

Mark = Literal["", "empty", "repeats", "cut off", "no answer"]
MARKS: tuple[Mark, ...] = ("empty", "repeats", "cut off", "no answer")
_YES_NO = re.compile(rf"\b({'|'.join(YES_NO)})\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\d.,])\d+(?:\.\d+)?(?![\d,]|\.\d)")
_RUN = 4  # words
_TAIL = 64  # words that are looked at for repetition
_LEAST_DISTINCT = 0.5


class Response(NamedTuple):
    """A response taken apart. Whatever its mark, P(yes) is read after its thought."""

    thought: str
    answer: str
    """One of the answers, or empty."""
    mark: Mark


def read_response(text: str, ended: bool, form: AnswerForm, answers: tuple[str, ...]) -> Response:
    """The parts of `text`, with or without think tags, closed or not; `ended` is False where it was cut off."""
    before, closing, after = text.partition(THOUGHT)
    thought = before.replace(THINKING, "").strip()
    said = after if closing else thought
    answer = _last_answer(said, form, answers)
    mark: Mark = ""
    if not thought and not said.strip():
        mark = "empty"
    elif not ended:
        mark = "repeats" if repeats(text) else "cut off"
    elif not answer:
        mark = "no answer"
    return Response(thought, answer, mark)


def repeats(text: str) -> bool:
    """Whether the end of a text says the same again and again."""
    words = text.lower().split()[-_TAIL:]
    runs = list(zip(*(words[start:] for start in range(_RUN)), strict=False))
    return len(words) == _TAIL and len(set(runs)) < _LEAST_DISTINCT * len(runs)


def _last_answer(text: str, form: AnswerForm, answers: tuple[str, ...]) -> str:
    if form == "yes_no":
        found = _YES_NO.findall(text)
        return str(found[-1]).capitalize() if found else ""
    numbers = [f"{float(number):g}" for number in _NUMBER.findall(text)]
    return next((number for number in reversed(numbers) if number in answers), "")
