"""From a question to the prompts of a method: the same histories, facts and words as the stages make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.inference.methods import Method
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.retrieval import parts_of, retrieval_of
from rallrec_pipeline.prompts.build import PromptContext, build_prompts, without_titles
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.prompts.render import shown_title
from rallrec_pipeline.retrieval.candidates import FEATURES
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.learned import LearnedReranker
from rallrec_pipeline.retrieval.rankings import by_vectors, ranking_of
from rallrec_pipeline.serving.known_facts import KnownFacts
from rallrec_pipeline.serving.questions import USER, Question
from rallrec_pipeline.settings import LONGEST_TITLE, RetrievalSettings, RetrieverSettings

Vectors = NDArray[np.float32]
NewVectors = Callable[[pl.DataFrame], Mapping[str, Vectors]]
"""Vectors of items that the core lacks, by kind, from their rows of the catalogue."""


@dataclass(frozen=True)
class ServedRetriever:
    """A retriever as the stage `retrieved_histories` has settled it; `parts` are the core's vectors by kind."""

    retriever: RetrieverSettings
    settings: RetrievalSettings
    alpha: float
    learned: LearnedReranker | None
    parts: Mapping[str, Vectors]

    @classmethod
    def read(cls, run: StageRun, method: Method) -> ServedRetriever:
        """That of a method, from the record and the vectors of a run's inputs; recent histories need no vectors."""
        retriever = run.settings.retrievers[method.retriever]
        settings, told = retrieval_of(run, retriever), run.given("retrieved_histories").metadata
        learned = (told.get("learned_reranker") or {}).get(method.retriever, {}).get("weights")
        return cls(
            retriever,
            settings,
            float(told["alpha"][method.retriever]),
            LearnedReranker(np.array([learned[name] for name in FEATURES]), 0) if learned else None,
            {} if method.prompt_form == "recent" else parts_of(run, retriever),
        )

    def histories(self, question: Question, new_vectors: NewVectors) -> pl.DataFrame:
        """The table `retrieved_histories` of a question: a row for each target, items by their numbers."""
        targets = question.targets
        samples = pl.DataFrame(
            {
                "sample_id": pl.Series(range(len(targets)), dtype=pl.Int64),
                "user_id": [USER] * len(targets),
                "item_id": [str(number) for number in targets],
                "split": ["test"] * len(targets),
                "rating": pl.Series([0.0] * len(targets), dtype=pl.Float32),
                "label": pl.Series([0] * len(targets), dtype=pl.Int8),
                "history_length": pl.Series([len(question.history)] * len(targets), dtype=pl.Int32),
            }
        )
        if self.parts:
            ranking = ranking_of(self.retriever, self._vectors(question, new_vectors))
        else:
            ranking = by_vectors(np.ones((len(question.codes), 1), np.float32))  # relevance plays no part
        one = Retriever(ranking, self.settings, self.alpha, self.learned)
        return retrieve_histories(samples, question.sequences, one)

    def _vectors(self, question: Question, new_vectors: NewVectors) -> dict[str, Vectors]:
        """Those of the question's items, in the order of their numbers."""
        is_new = question.codes < 0
        found = {kind: vectors[question.codes] for kind, vectors in self.parts.items()}
        if is_new.any():
            made = new_vectors(question.items.filter(pl.Series(is_new)))
            for kind, vectors in found.items():
                vectors[is_new] = made[kind]
        return found


@dataclass(frozen=True)
class Prompter:
    """Makes the prompts of a method."""

    method: Method
    spec: DatasetSpec
    retriever: ServedRetriever
    facts: KnownFacts | None
    new_vectors: NewVectors
    title_characters: int = LONGEST_TITLE

    def histories(self, question: Question) -> pl.DataFrame:
        """Which lines each target's prompt shows."""
        return self.retriever.histories(question, self.new_vectors)

    def context(self, question: Question) -> PromptContext:
        """What prompts state beside the histories."""
        shown = [shown_title(title, self.title_characters) for title in question.items["title"]]
        titles = question.items.select("item_id", title=pl.Series(shown))
        profiles = pl.DataFrame({"user_id": [USER], "profile": [question.profile]})
        facts = self.facts.facts(question, self.method.facts) if self.facts else Facts()
        context = PromptContext(self.spec, titles, profiles, facts)
        return context if self.method.titles else without_titles(context)

    def prompts(self, histories: pl.DataFrame, context: PromptContext) -> list[str]:
        """The prompt of each row of `histories`."""
        made = build_prompts(histories, context, [self.method.prompt_form], [self.method.answer_form])
        return made["prompt"].to_list()
