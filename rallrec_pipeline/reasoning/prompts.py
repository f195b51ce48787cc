"""What the reasoner is asked, and what stands between its thought and its answer (RALLRec+, sections on KP).

A reasoning prompt is a prompt of `prompts/render.py` with another end, which asks for a thought. The answer is read
where the plain prompt has it: as Yes or No, or behind the target's line of the list of ratings.
"""

from __future__ import annotations

import re

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.language_models.tokens import THOUGHT
from rallrec_pipeline.prompts.render import YES_NO
from rallrec_pipeline.settings import AnswerForm

REASONING_VERSION = "1"  # raise it when the wording changes
SURE, LIKELY = 0.2, 0.1
"""Distances of P(yes) from 1/2 above which an answer is sure, or likely (published code)."""
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


def before_answer(thought: str, plain: str, form: AnswerForm, thinks: bool) -> str:
    """What the assistant has said when its answer is read: its thought, closed, and what leads to the answer.

    `thinks` says that the model's template opens a thought. Without a thought an empty one is closed.
    """
    told = f"{thought.strip()}\n" if thought.strip() else ""
    closed = f"{told}{THOUGHT}\n\n" if thinks else f"{told}\n" if told else ""
    if form == "rating":
        return closed + plain.rpartition("\n")[2]
    return closed if thinks else f"{closed}Answer:\n"
