"""A method of the LLM on the shortlists of users: its prompts, its adapter, its calibration."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.evaluation.calibration import Platt
from rallrec_pipeline.inference.methods import Method, methods
from rallrec_pipeline.inference.score import score_missing_prompts
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.marks import SCORE_KEYS
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.scored import method_calibration
from rallrec_pipeline.pipeline.stages.engine import OneEngine
from rallrec_pipeline.pipeline.stages.model import checkpoint, score_store
from rallrec_pipeline.pipeline.stages.new_items import catalogue_items
from rallrec_pipeline.pipeline.stages.retrieval import todays_retriever
from rallrec_pipeline.prompts.build import build_prompts, prompt_context, without_titles
from rallrec_pipeline.prompts.facts import Facts, make_facts
from rallrec_pipeline.recommendation.asked import expected_of_today, samples_of_today, statistics_of_today
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.today import Codes, Visits
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories


@dataclass(frozen=True)
class LlmRescoring:
    """P(yes) of shortlists by one method, as it scores test rows; finished prompts are kept in the memo.

    Prompts are scored in the order of their texts, so those of one user stand next to one another.
    """

    run: StageRun
    recommender: Recommender
    engines: OneEngine
    method: Method
    retriever: Retriever
    scaling: Platt
    fingerprint: str
    keys: list[pl.DataFrame] = field(default_factory=list)
    """`user_id` and `key` of the prompts that were asked until now."""

    @classmethod
    def of(cls, run: StageRun, recommender: Recommender, engines: OneEngine) -> LlmRescoring:
        """The method of the settings. Raises ConfigError when it is none of those that are scored."""
        name = run.settings.recommendations.method
        known = {method.name: method for method in methods(run.settings)}
        if name not in known:
            raise ConfigError(f"recommendations.method {name!r} is not scored: there are {', '.join(known)}")
        method = known[name]
        store = score_store(run, method)
        calibrated, made = run.settings.scoring.calibration == "platt", run.given("predictions")
        scaling = method_calibration(method, made, run.lake, run.spec) if calibrated else Platt()
        fingerprint = stable_hash(store.model_fingerprint, store.adapter_version, scaling.slope, scaling.intercept)
        retriever = todays_retriever(run, method.retriever, recommender.catalogue.mixture)
        return cls(run, recommender, engines, method, retriever, scaling, fingerprint)

    def __call__(self, visits: Visits, items: Codes) -> NDArray[np.float64]:
        """P(yes) (n, s) of `items` (n, s); 0 for padding."""
        samples = samples_of_today(self.recommender, visits, items)
        found = np.zeros(items.size)
        if samples.height:
            prompts = self.prompts(samples)
            adapter = checkpoint(self.run, self.method.adapter) if self.method.adapter else None
            scored = score_missing_prompts(
                lambda: self.engines.of(adapter),
                prompts,
                self.method.answer_form,
                self.run.spec,
                score_store(self.run, self.method),
                self.run.progress(f"recommending by {self.method.name}"),
            )
            self.keys.append(samples.select("user_id", scored.rows["input_hash"].alias("key")))
            found[samples["sample_id"].to_numpy()] = self.scaling.apply(scored.table["p_yes"].to_numpy())
        return found.reshape(items.shape)

    def prompts(self, samples: pl.DataFrame) -> pl.DataFrame:
        """The prompts of `samples_of_today`, as `evaluation_prompts` has those of test rows."""
        method = self.method
        sequences = self.recommender.ratings.sequences
        histories = retrieve_histories(samples, sequences, self.retriever)
        context = prompt_context(
            self.run.spec,
            catalogue_items(self.run, self.recommender.catalogue.item_ids),
            self.run.read(tables.USERS).join(samples.select("user_id").unique(), on="user_id", how="semi"),
            self._facts(samples),
            self.run.settings.prompts.title_characters,
        )
        shown = context if method.titles else without_titles(context)
        return build_prompts(histories, shown, [method.prompt_form], [method.answer_form])

    def _facts(self, samples: pl.DataFrame) -> Facts:
        if not self.method.facts:
            return Facts()
        core, every = self.run.read(tables.CORE_INTERACTIONS), self.run.read(tables.SAMPLES)
        sampled = self.recommender.ratings.is_sampled
        return make_facts(
            self.method.facts,
            statistics_of_today(self.recommender, samples),
            samples,
            every.filter(pl.col("split") == "train") if sampled else training_interactions(core, every),
            expected_of_today(self.recommender, samples, self.run.read(tables.EXPECTED_RATINGS)),
        )


def score_keys(asked: LlmRescoring | None) -> pl.DataFrame:
    """`user_id` and the keys of the finished prompts that the user's items were scored by."""
    nothing = pl.DataFrame(schema={"user_id": pl.String, "key": pl.String})
    keys = pl.concat([nothing, *(asked.keys if asked else ())])
    return keys.group_by("user_id", maintain_order=True).agg(pl.col("key").alias(SCORE_KEYS))


def profiles_of(run: StageRun) -> dict[str, str]:
    """What prompts say of each user who is in the table of users."""
    context = prompt_context(run.spec, run.read(tables.CORE_ITEMS).head(0), run.read(tables.USERS), Facts())
    return dict(context.profiles.iter_rows())
