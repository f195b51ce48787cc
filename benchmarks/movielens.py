"""Real work for the benchmarks: tables, prompts and item texts of MovieLens-100K under the papers' 5-core.

Needs the raw files in the lake: `rallrec run movielens-100k --select raw_files` first (`make bench` sees to it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.histories import make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.descriptions import description_prompt, template_text
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import Facts, make_facts
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import AnswerForm, RetrievalSettings, Settings, lake_root

NAME, PROTOCOL, SEED = "movielens-100k", "five_core", 2025


@dataclass(frozen=True)
class MovieLens:
    """The tables of the dataset that the LLM stages start from."""

    spec: DatasetSpec
    core: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    samples: pl.DataFrame

    @classmethod
    def read(cls) -> MovieLens:
        """From the raw files of the lake."""
        lake = lake_root()
        spec = get_dataset(NAME, lake, PROTOCOL)
        raw = read_raw(spec, lake)
        core = core_of(raw.interactions, raw.items, spec.protocol)
        items = raw.items.join(core.select("item_id").unique(), on="item_id", how="semi", maintain_order="left")
        return cls(spec, core, items, raw.users, make_samples(core, spec.protocol, spec.label))

    def prompts(self, form: AnswerForm, split: str, count: int, settings: Settings) -> pl.DataFrame:
        """Prompts of random samples of `split` with their most recent history, as `recent` is asked or tuned."""
        rows = self.samples.filter(pl.col("split") == split)
        asked = rows[np.sort(np.random.default_rng(SEED).choice(rows.height, count, replace=False))]
        sequences = UserSequences.from_interactions(self.core, self.items["item_id"].to_list())
        vectors = np.ones((self.items.height, 1), np.float32)  # relevance plays no part here
        sizes = RetrievalSettings(history_length=settings.retrieval.history_length)
        histories = retrieve_histories(asked, sequences, Retriever(by_vectors(vectors), sizes, alpha=0.5))
        facts = Facts() if form == "yes_no" else self._facts(histories, settings)
        return build_prompts(histories, prompt_context(self.spec, self.items, self.users, facts), ["recent"], [form])

    def item_texts(self, count: int) -> list[str]:
        """What the title embedding encodes of random items."""
        return [template_text(row, self.spec) for row in self._random_items(count)]

    def description_prompts(self, count: int, settings: Settings) -> list[str]:
        """What the LLM is asked to describe, in the order of length in which it is asked."""
        rows = self._random_items(count)
        return sorted((description_prompt(row, self.spec, settings.descriptions) for row in rows), key=len)

    def _facts(self, histories: pl.DataFrame, settings: Settings) -> Facts:
        statistics = rating_statistics(self.core, self.samples)
        return make_facts(settings.prompts.facts, statistics, histories, training_interactions(self.core, self.samples))

    def _random_items(self, count: int) -> list[dict[str, str]]:
        places = np.random.default_rng(SEED).choice(self.items.height, count, replace=False)
        return self.items[np.sort(places)].to_dicts()
