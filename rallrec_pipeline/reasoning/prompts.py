"""What the reasoner is asked, and what stands between its thought and its answer (RALLRec+, sections on KP).

A reasoning prompt is a prompt of `prompts/render.py` with another end, which asks for a thought. The answer is read
where the plain prompt has it: as Yes or No, or behind the target's line of the list of ratings. A model that was not
made to think answers best when it completes a list: its thought is a note in the list (docs/experiments.md).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.language_models.tokens import THOUGHT
from rallrec_pipeline.prompts.render import YES_NO
from rallrec_pipeline.settings import AnswerForm
from rallrec_pipeline.text import clean_text

REASONING_VERSION = "1"  # raise it when the wording changes
SURE, LIKELY = 0.2, 0.1
"""Distances of P(yes) from 1/2 above which an answer is sure, or likely (published code)."""
LONGEST_NOTE = 4000  # characters
_PLAIN_END = re.compile(r"\nAnswer with Yes or No only\.$")
_GAP = re.compile(r"{(items?)}")


def reasoning_prompt(plain: str, form: AnswerForm, spec: DatasetSpec, instruction: str, told: str = "") -> str:
    """`plain` asked for a thought; `told` is a sentence of `opinion` (eq. 9), or empty."""
    words = spec.words
    thought = _GAP.sub(lambda gap: words.items if gap.group(1) == "items" else words.item, instruction)
    if form == "yes_no":
        question, end = _PLAIN_END.sub("", plain), f"End with {YES_NO[0]} or {YES_NO[1]}."
    else:
        scale = spec.label.scale
        question = f"{plain} ?\n\nWhat stands in the place of the question mark, from {scale[0]:g} to {scale[-1]:g}?"
        end = "End with the rating."
    return "\n".join(part for part in (question, told, f"{thought} {end}") if part)


def opinion(p_yes: float, spec: DatasetSpec) -> str:
    """The answer of another model in graded words (eq. 9; graded as in the published code)."""
    distance = abs(p_yes - 0.5)
    sure = "is sure" if distance > SURE else "finds it likely" if distance > LIKELY else "is not sure, but leans to it"
    likes = "likes" if p_yes > 0.5 else "does not like"
    return f"Another model, which has seen many users, {sure} that this user {likes} the {spec.words.item}."


class AnswerPosition(NamedTuple):
    """Where an answer is read: behind `prompt`, or behind what the assistant has `said` to it as a chat turn."""

    prompt: str
    said: str | None


def answer_position(plain: str, prompt: str, told: str, thought: str, form: AnswerForm, thinks: bool) -> AnswerPosition:
    """Where the answer to a reasoning `prompt`, made of `plain` and `told`, is read after a thought.

    `thinks` says that the model's template opens a thought; that is closed, an empty one too.
    """
    last = plain.rpartition("\n")[2]
    if form == "rating" and not thinks:
        return AnswerPosition(_with_note(plain, " ".join((told, clean_text(thought, LONGEST_NOTE))).strip()), None)
    before = f"{thought.strip()}\n" if thought.strip() else ""
    closed = f"{before}{THOUGHT}\n\n" if thinks else f"{before}\n" if before else ""
    return AnswerPosition(prompt, closed + (last if form == "rating" else "" if thinks else "Answer:\n"))


def _with_note(plain: str, note: str) -> str:
    """A list of ratings with a note before its last line."""
    lines, _, last = plain.rpartition("\n")
    return f"{lines}\nNote: {note}\n{last}" if note else plain
