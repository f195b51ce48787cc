"""What answers `POST /score`: a method of the LLM, the expert, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.folded import FoldedExpert
from rallrec_pipeline.errors import RequestError
from rallrec_pipeline.evaluation.measures.calibration import Platt
from rallrec_pipeline.inference.explain import LineEffect, explain_lines
from rallrec_pipeline.inference.score import in_chat, liking_probability
from rallrec_pipeline.language_models.protocols import AnswerScorer
from rallrec_pipeline.prompts.build import HISTORY_COLUMN
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.reasoning.cascade import Asking, KnownBefore
from rallrec_pipeline.reasoning.merge import Merged
from rallrec_pipeline.serving.prompting import Prompter
from rallrec_pipeline.serving.questions import Question
from rallrec_pipeline.serving.requests import UNFIT
from rallrec_pipeline.serving.work import require_wanted
from rallrec_pipeline.settings import ServingSettings

PART = 32
"""Prompts between two looks whether anybody still waits: some seconds of a small LLM."""
EXPERT = "factorisation"
"""The expert that is served: it folds any history in."""


@dataclass(frozen=True)
class Answer:
    """P(yes) (n,) float64 of the targets of a question; `lines` of each where they were asked for."""

    p_yes: NDArray[np.float64]
    lines: Sequence[Sequence[LineEffect]] | None = None


class Answerer(Protocol):
    """A method that is loaded."""

    @property
    def uses_llm(self) -> bool:
        """Whether it waits for the LLM."""

    def answer(self, question: Question, explain: int) -> Answer:
        """P(yes) of each target, with the `explain` lines of its history that move it most."""


@dataclass(frozen=True)
class LlmMethod:
    """A method of the LLM: prompts as the batch's, `most` of them for one question."""

    prompter: Prompter
    scorer: AnswerScorer
    calibration: Platt | None
    most: int = ServingSettings().targets
    uses_llm: bool = field(default=True, init=False)

    def answer(self, question: Question, explain: int) -> Answer:
        """Raises RequestError when so many lines are to be explained that it takes more than `most` prompts."""
        context, method = self.prompter.context(question), self.prompter.method

        def p_yes_of(rows: pl.DataFrame) -> NDArray[np.float64]:
            return self.p_yes(self.prompter.prompts(rows, context))

        histories = self.prompter.histories(question)
        if not explain:
            return Answer(p_yes_of(histories))
        column = HISTORY_COLUMN[method.prompt_form]
        if (count := histories.height + int(histories[column].list.len().sum())) > self.most:
            told = f"explain: a prompt for each target, and one without each of its lines, are {count:,} prompts"
            raise RequestError(
                UNFIT, f"{told}: at most {self.most:,} are read (serving.targets): ask for fewer targets"
            )
        found = explain_lines(histories, column, p_yes_of, explain)
        return Answer(found.p_yes, found.lines)

    def p_yes(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """P(yes) of prompts, calibrated as the batch's is."""
        form, spec = self.prompter.method.answer_form, self.prompter.spec
        parts = list[NDArray[np.float64]]()
        for first in range(0, len(prompts), PART):
            require_wanted()
            parts.append(self.scorer.score(prompts[first : first + PART], answer_texts(form, spec), in_chat(form)))
        p_yes = liking_probability(np.concatenate(parts), form, spec)
        return self.calibration.apply(p_yes) if self.calibration else p_yes


@dataclass(frozen=True)
class ExpertMethod:
    """The factorisation, into which the history is folded."""

    expert: FoldedExpert
    uses_llm: bool = field(default=False, init=False)

    def answer(self, question: Question, explain: int) -> Answer:
        """Raises RequestError when lines are to be explained: the expert shows none of them to an LLM."""
        if explain:
            raise RequestError(UNFIT, f"explain: {EXPERT} reads no prompt: ask a method of the LLM")
        return Answer(self.expert.p_yes(question.codes, question.history, question.ratings, question.targets))


@dataclass(frozen=True)
class MergedMethod:
    """Both the expert and a method of the LLM are asked, and what they say is made one P(yes)."""

    expert: ExpertMethod
    llm: LlmMethod
    merged: Merged
    uses_llm: bool = field(default=True, init=False)

    def answer(self, question: Question, explain: int) -> Answer:
        """Raises RequestError when lines are to be explained."""
        _explain_nothing(explain, self.llm)
        by_expert, by_llm = (member.answer(question, 0).p_yes for member in (self.expert, self.llm))
        return Answer(self.merged(by_expert, by_llm))


@dataclass(frozen=True)
class CascadeMethod:
    """The expert answers, and a method of the LLM the targets where that paid on validation rows.

    `item_ratings` (m,) are the training ratings of the core's items.
    """

    expert: ExpertMethod
    llm: LlmMethod
    asking: Asking
    item_ratings: NDArray[np.int64]
    uses_llm: bool = field(default=True, init=False)

    def answer(self, question: Question, explain: int) -> Answer:
        """Raises RequestError when lines are to be explained."""
        _explain_nothing(explain, self.llm)
        p_yes = self.expert.answer(question, 0).p_yes.copy()
        asked = self.asks(question, p_yes)
        if asked.any():
            p_yes[asked] = self.llm.answer(replace(question, targets=question.targets[asked]), 0).p_yes
        return Answer(p_yes)

    def asks(self, question: Question, by_expert: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Of which targets (n,) the LLM is asked, whatever else the request asks for."""
        codes, alike = question.codes[question.targets], np.zeros(len(question.targets), np.int64)
        ratings = np.where(codes >= 0, self.item_ratings[codes], 0)
        return self.asking.asks(KnownBefore(by_expert, ratings, alike + len(question.history), alike))


def _explain_nothing(explain: int, llm: LlmMethod) -> None:
    if explain:
        name = llm.prompter.method.name
        raise RequestError(UNFIT, f"explain: not all of this answer is read off a prompt: ask the method {name!r}")
