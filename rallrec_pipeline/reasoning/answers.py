"""What a response holds: its thought, the answer in its own words, and what is wrong with it."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from rallrec_pipeline.language_models.tokens import THINKING, THOUGHT
from rallrec_pipeline.prompts.render import YES_NO
from rallrec_pipeline.settings import AnswerForm

Mark = Literal["", "empty", "repeats", "cut off", "no answer"]
MARKS: tuple[Mark, ...] = ("empty", "repeats", "cut off", "no answer")
_WORD = f"({'|'.join(YES_NO)})"
_LEAD = r"\b(?:answer|rating|verdict|prediction)\b\s*(?:is|would be)?\W{0,4}"
_NUMBER = r"(?<![\d.,/])(\d+(?:\.\d+)?)(?![\d/]|[.,]\d)"
_YES_NO = re.compile(rf"{_LEAD}{_WORD}\b|\b{_WORD}\W*$|^\W*{_WORD}\s*(?:[.,!;:]|$)", re.IGNORECASE)
_RATING = re.compile(
    rf"(?:{_LEAD})?(?<![\d.,/])(\d+(?:\.\d+)?)\s*(?:out of|of|/)\s*\d+|{_LEAD}{_NUMBER}|"
    rf"{_NUMBER}\s*(?:stars?)?\W*$|^\W*{_NUMBER}",
    re.IGNORECASE,
)
_LEAST_REPEATED = 24  # characters
_COPIES = 3


class Response(NamedTuple):
    """A response taken apart. Whatever its mark, P(yes) is read after its thought."""

    thought: str
    answer: str
    """One of the answers, or empty."""
    mark: Mark


def read_response(text: str, ended: bool, form: AnswerForm, answers: tuple[str, ...], thinks: bool = False) -> Response:
    """The parts of `text`, with or without think tags, closed or not; `ended` is False where it was cut off.

    Of a model that `thinks` an answer stands behind its thought only. Elsewhere it is what the text begins or ends
    with, or what follows a word such as "answer:"; a number or a "no" in the middle of a sentence is none.
    """
    before, closing, after = text.partition(THOUGHT)
    thought = before.replace(THINKING, "").strip()
    opened = thinks or THINKING in before
    said = after if closing else "" if opened else thought
    answer = _answer(said.strip(), form, answers)
    mark: Mark = ""
    if not thought and not said.strip():
        mark = "empty"
    elif not ended:
        mark = "repeats" if repeats(text) else "cut off"
    elif not answer:
        mark = "no answer"
    return Response(thought, answer, mark)


def repeats(text: str) -> bool:
    """Whether a text ends with one piece, of any length, three times or more, over at least 24 characters.

    The last copy may be cut off, so the piece is looked for at any of its places.
    """
    end = text.rstrip()
    for length in range(1, len(end) // _COPIES + 1):
        span = max(_COPIES * length, _LEAST_REPEATED)
        tail = end[-span:]
        if len(tail) == span and tail[length:] == tail[:-length] and tail.strip():
            return True
    return False


def _answer(said: str, form: AnswerForm, answers: tuple[str, ...]) -> str:
    """The last answer that `said` gives; empty where it gives none."""
    pattern = _YES_NO if form == "yes_no" else _RATING
    found = [next(group for group in match.groups() if group) for match in pattern.finditer(said)]
    plain = [text.capitalize() if form == "yes_no" else f"{float(text):g}" for text in found]
    return next((text for text in reversed(plain) if text in answers), "")
