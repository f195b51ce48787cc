"""A method of the LLM on the shortlists of users: its prompts, its adapter, its calibration, and its merge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expectation import Expectation
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.evaluation.measures.calibration import Platt
from rallrec_pipeline.inference.methods import Method, methods, rescoring_method
from rallrec_pipeline.inference.score import ScoreStore, in_chat, score_missing_prompts
from rallrec_pipeline.inference.score import score_keys as score_keys_of
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.marks import SCORE_KEYS
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.reporting.scored import method_calibration
from rallrec_pipeline.pipeline.stages.engine import OneEngine
from rallrec_pipeline.pipeline.stages.model import checkpoint, score_store
from rallrec_pipeline.pipeline.stages.new_items import catalogue_items
from rallrec_pipeline.pipeline.stages.prompts import stated_weights
from rallrec_pipeline.pipeline.stages.retrieval import todays_retriever
from rallrec_pipeline.prompts.build import build_prompts, prompt_context, without_titles
from rallrec_pipeline.prompts.facts import Facts, make_facts
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.reasoning.merge import Merged, merge_of_two
from rallrec_pipeline.recommendation.asked import (
    expectation_of_today,
    expected_of_today,
    samples_of_today,
    statistics_of_today,
)
from rallrec_pipeline.recommendation.cascade import tokens_added, within_budget
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.today import Codes, Visits
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.settings import MergeSettings


@dataclass(frozen=True)
class LlmRescoring:
    """P(yes) of shortlists by one method, as it scores test rows; finished prompts are kept in the memo.

    Prompts are scored in the order of their texts, so those of one user stand next to one another: where they begin
    alike the engine reads the beginning once.
    """

    run: StageRun
    recommender: Recommender
    engines: OneEngine
    method: Method
    retriever: Retriever
    scaling: Platt
    fingerprint: str
    merged: Merged | None = None
    """How the expert's P(yes) and that of the method become one; None: that of the method counts alone."""
    keys: list[pl.DataFrame] = field(default_factory=list)
    """`user_id` and `key` of the prompts that were asked until now."""
    costs: list[tuple[int, float]] = field(default_factory=list)
    """Of each call: prompts, and the seconds that the LLM took for them, whichever run has scored them."""

    @classmethod
    def of(
        cls, run: StageRun, recommender: Recommender, engines: OneEngine, core: Recommender | None = None
    ) -> LlmRescoring:
        """The method of the settings; `core` knows the core's ratings, which a merge is fitted with.

        Raises ConfigError when it is none of those that are scored.
        """
        name, merge = rescoring_method(run.settings)
        known = {method.name: method for method in methods(run.settings)}
        if name not in known:
            raise ConfigError(f"recommendations.method {name!r} is not scored: there are {', '.join(known)}")
        method = known[name]
        run.memo(SCORES)  # a damaged file is mended
        store = score_store(run, method)
        calibrated, made = run.settings.scoring.calibration == "platt", run.given("predictions")
        scaling = method_calibration(method, made, run.lake, run.spec) if calibrated else Platt()
        fingerprint = stable_hash(store.model_fingerprint, store.adapter_version, scaling.slope, scaling.intercept)
        retriever = todays_retriever(run, method.retriever, recommender.catalogue.mixture)
        found = cls(run, recommender, engines, method, retriever, scaling, fingerprint)
        if merge is None:
            return found
        merged = _merge_on_validation(run, method, core or recommender, merge)
        parts = (fingerprint, run.given("recommender_fit").data_version, made.data_version, merge.kind)
        return replace(found, merged=merged, fingerprint=stable_hash(*parts))

    def __call__(self, visits: Visits, items: Codes, p_yes: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(yes) (n, s) of `items` (n, s), merged with the expert's if so set; NaN where no prompt was read."""
        samples = samples_of_today(self.recommender, visits, items)
        found = np.full(items.size, np.nan)
        if samples.height:
            store = score_store(self.run, self.method)
            prompts = self._affordable(self.prompts(samples), items.shape[1], store)
            adapter = checkpoint(self.run, self.method.adapter) if self.method.adapter else None
            scored = score_missing_prompts(
                lambda: self.engines.of(adapter),
                prompts,
                self.method.answer_form,
                self.run.spec,
                store,
                self.run.progress(f"recommending by {self.method.name}"),
            )
            self.keys.append(prompts.select("user_id", scored.rows["input_hash"].alias("key")))
            self.costs.append((prompts.height, scored.seconds))
            asked = prompts["sample_id"].to_numpy()
            answers = self.scaling.apply(scored.table["p_yes"].to_numpy())
            found[asked] = answers if self.merged is None else self.merged(p_yes.ravel()[asked], answers)
        return found.reshape(items.shape)

    def on(self, recommender: Recommender) -> LlmRescoring:
        """The same with other ratings, and accounts of its own."""
        return replace(self, recommender=recommender, keys=[], costs=[])

    @property
    def told(self) -> dict[str, float]:
        """Prompts that were asked, and the seconds that the LLM took for them, now or earlier; loading is no part."""
        prompts, seconds = (sum(column) for column in zip((0, 0.0), *self.costs, strict=True))
        return {"prompts": prompts, "seconds": round(seconds, 3)}

    def _affordable(self, prompts: pl.DataFrame, each: int, store: ScoreStore) -> pl.DataFrame:
        """The prompts that the budget allows, those of a user in the order of the shortlist; the log says what is read.

        `each` is the width of the shortlist: rows are numbered user by user.
        """
        users, form = (prompts["sample_id"].to_numpy() // each).tolist(), self.method.answer_form
        chosen = prompts.filter(pl.Series(self._within_budget(users, prompts["prompt"].to_list()), dtype=pl.Boolean))
        keys = score_keys_of(chosen["prompt"].to_list(), form, answer_texts(form, self.run.spec), store)
        self.run.log(
            f"{self.method.name} is asked about {chosen.height:,} of {prompts.height:,} candidates of "
            f"{len(set(users)):,} users: {len(store.memo.missing(keys)):,} prompts are not finished"
        )
        return chosen

    def _within_budget(self, users: list[int], texts: list[str]) -> NDArray[np.bool_]:
        """Which prompts (n,) are read. Raises ModelError where there is a budget and the tokenizer cannot be read."""
        most = self.run.settings.recommendations.tokens_per_user
        if not most:
            return np.ones(len(users), np.bool_)
        added = tokens_added(users, self._tokenized.prompts_tokens(texts, in_chat(self.method.answer_form)))
        kept = within_budget(users, added, most)
        if not kept.any():
            self.run.log(
                f"warning: recommendations.tokens_per_user = {most} is less than the first prompt of every user, of up "
                f"to {int(added.max()):,} tokens: {self.method.name} is asked nothing"
            )
        return kept

    @cached_property
    def _tokenized(self) -> TokenizedModel:
        """What reads prompts as the engine does, the chat template included, before there is an engine."""
        return TokenizedModel(load_tokenizer(model_folder(self.run.lake, self.run.settings.model)), 0, None)

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
            self._expected(samples) if "expected_rating" in self.method.facts else None,
        )

    def _expected(self, samples: pl.DataFrame) -> pl.DataFrame:
        table = self.run.read(tables.EXPECTED_RATINGS)
        return expected_of_today(self.recommender, samples, table, self._expectation)

    @cached_property
    def _expectation(self) -> Expectation:
        """Fitted once for all that is asked."""
        return expectation_of_today(self.recommender, stated_weights(self.run))


def _merge_on_validation(run: StageRun, method: Method, core: Recommender, merge: MergeSettings) -> Merged:
    """How the expert and `method` are merged, fitted on the validation rows that the method was asked about."""
    assert merge.kind in ("mean", "logistic"), "settings take no other"
    rows = read_table(tables.predictions_table(method.name), run.folder("predictions"), run.dataset)
    valid = rows.filter(pl.col("split") == "valid").select("sample_id", "p_yes")
    known = run.read(tables.SAMPLES).join(valid, on="sample_id", how="inner").sort("sample_id")
    sequences = core.ratings.sequences
    lengths = known["history_length"].to_numpy().astype(np.int64)
    visits = Visits(sequences.user_codes(known["user_id"]), lengths)
    by_expert = core.expert(visits, sequences.item_codes(known["item_id"])[:, None])[:, 0]
    return merge_of_two(merge.kind, (by_expert, known["p_yes"].to_numpy()), known["label"].to_numpy().astype(np.int8))


def score_keys(asked: LlmRescoring | None) -> pl.DataFrame:
    """`user_id` and the keys of the finished prompts that the user's items were scored by."""
    nothing = pl.DataFrame(schema={"user_id": pl.String, "key": pl.String})
    keys = pl.concat([nothing, *(asked.keys if asked else ())])
    return keys.group_by("user_id", maintain_order=True).agg(pl.col("key").alias(SCORE_KEYS))


def profiles_of(run: StageRun) -> dict[str, str]:
    """What prompts say of each user who is in the table of users."""
    context = prompt_context(run.spec, run.read(tables.CORE_ITEMS).head(0), run.read(tables.USERS), Facts())
    return dict(context.profiles.iter_rows())
