"""Requests about real ratings have the prompts of the batch, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.expectation import Expectation
from rallrec_pipeline.baselines.opinions import expected_ratings, rated_rows
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.histories import make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.inference.methods import Method
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import make_facts
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.serving.catalogue import ByUser, Catalogue
from rallrec_pipeline.serving.known_facts import KnownFacts
from rallrec_pipeline.serving.prompting import Prompter, ServedRetriever
from rallrec_pipeline.serving.questions import question_of
from rallrec_pipeline.serving.requests import ScoreRequest
from rallrec_pipeline.settings import ExpectedBy, Fact, RetrievalSettings, RetrieverSettings

SEED, ALPHA = 5, 2 / 3
SIZES = RetrievalSettings(history_length=5)
CHEAP: tuple[Fact, ...] = ("item_mean", "user_mean")
ALL: tuple[Fact, ...] = (*CHEAP, "expected_rating")


@dataclass
class Ratings:
    """MovieLens-100K under the papers' core, and a vector of each item."""

    spec: DatasetSpec
    core: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    samples: pl.DataFrame
    vectors: np.ndarray

    @property
    def item_ids(self) -> list[str]:
        return self.items["item_id"].to_list()

    def foretold(self, by: ExpectedBy) -> tuple[pl.DataFrame, Expectation]:
        """The table `expected_ratings`, and what expects the ratings of any history."""
        rated = rated_rows(self.core, self.core.select("user_id", "item_id"))
        asked, like_above = rated.select("user_id", "item_id", "history_length"), self.spec.label.like_above
        found, weights = expected_ratings(self.core, self.samples, self.item_ids, asked, like_above, SEED, by)
        log = RatingLog.of(self.core, self.samples, self.item_ids)
        return found.select("user_id", "item_id", "expected"), Expectation.of(log, like_above, SEED, weights)

    def prompts(self, rows: pl.DataFrame, facts: tuple[Fact, ...], foretold: pl.DataFrame | None) -> list[str]:
        """As the stages make them."""
        sequences = UserSequences.from_interactions(self.core, self.item_ids)
        histories = retrieve_histories(rows, sequences, Retriever(by_vectors(self.vectors), SIZES, ALPHA))
        training = training_interactions(self.core, self.samples)
        made = make_facts(facts, rating_statistics(self.core, self.samples), histories, training, foretold)
        context = prompt_context(self.spec, self.items, self.users, made)
        return build_prompts(histories, context, ["reranked"], ["rating"])["prompt"].to_list()

    def prompter(
        self, facts: tuple[Fact, ...], foretold: pl.DataFrame | None = None, fit: Expectation | None = None
    ) -> Prompter:
        """As the server makes them."""
        retriever = ServedRetriever(RetrieverSettings(), SIZES, ALPHA, None, {"item": self.vectors})
        known = KnownFacts.of(self.core, self.samples, False, foretold, fit)
        method = Method("rallrec", "", "reranked", "rating", facts=facts)
        return Prompter(method, self.spec, retriever, known, lambda items: {})

    def catalogue(self) -> Catalogue:
        place = {item: row for row, item in enumerate(self.item_ids)}
        rated = ByUser(self.core.select("user_id", "item_id", "rating"))
        return Catalogue(self.spec, self.items, place, self.items.height, ByUser(self.users), rated)


@pytest.fixture(scope="module")
def ratings(movielens: Path, downloads: Path) -> Ratings:
    spec = get_dataset("movielens-100k", downloads, "five_core")
    raw = read_raw(spec, downloads)
    core = core_of(raw.interactions, raw.items, spec.protocol)
    items = raw.items.join(core.select("item_id").unique(), on="item_id", how="semi", maintain_order="left")
    vectors = np.random.default_rng(SEED).normal(size=(items.height, 96)).astype(np.float32)
    samples = make_samples(core, spec.protocol, spec.label)
    return Ratings(spec, core.drop("microsecond", strict=False), items, raw.users, samples, vectors)


def differing(
    ratings: Ratings,
    count: int,
    facts: tuple[Fact, ...],
    foretold: pl.DataFrame | None = None,
    fit: Expectation | None = None,
) -> int:
    """How many of `count` requests have another prompt than the batch."""
    held_out = ratings.samples.filter(pl.col("split") != "train")
    rows = held_out[np.sort(np.random.default_rng(SEED).choice(held_out.height, count, replace=False))]
    batch = ratings.prompts(rows, facts, foretold)
    prompter, catalogue = ratings.prompter(facts, foretold, fit), ratings.catalogue()
    known = {user: catalogue.ratings.rows(user) for user in rows["user_id"].unique()}
    wrong = 0
    for row, prompt in zip(rows.iter_rows(named=True), batch, strict=True):
        lines = known[row["user_id"]].head(row["history_length"]).select("item_id", "rating").to_dicts()
        asked = {"user_id": row["user_id"], "history": lines, "targets": [{"item_id": row["item_id"]}]}
        question = question_of(ScoreRequest.model_validate(asked), catalogue)
        wrong += prompter.prompts(prompter.histories(question), prompter.context(question)) != [prompt]
    return wrong


def test_requests_have_the_prompts_of_the_batch(ratings: Ratings) -> None:
    assert differing(ratings, 100, CHEAP) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("by", "count"), [("factorisation", 10_000), ("experts", 3_000)])
def test_thousands_of_requests_have_the_prompts_of_the_batch(ratings: Ratings, by: ExpectedBy, count: int) -> None:
    assert differing(ratings, count, ALL, *ratings.foretold(by)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("by", get_args(ExpectedBy))
def test_what_is_expected_now_is_what_the_table_has_of_test_rows(ratings: Ratings, by: ExpectedBy) -> None:
    """Nothing is looked up in the table, so nearly all numbers are made twice."""
    foretold, fit = ratings.foretold(by)
    rows = ratings.samples.filter(pl.col("split") == "test")[::97]
    pair = ["user_id", "item_id"]
    stated = rows.select(pair).join(foretold, on=pair, how="left", maintain_order="left")["expected"]
    place = {item: code for code, item in enumerate(ratings.item_ids)}
    catalogue = ratings.catalogue()
    for row, expected in zip(rows.iter_rows(named=True), stated, strict=True):
        lines = catalogue.ratings.rows(row["user_id"]).head(row["history_length"])
        codes = np.array([*(place[item] for item in lines["item_id"]), place[row["item_id"]]], np.int32)
        own, last = np.arange(lines.height, dtype=np.int32), np.array([lines.height], np.int32)
        made = fit.of_one_user(codes, own, lines["rating"].to_numpy(), last, last)
        assert made[0] == pytest.approx(expected, abs=1e-4)


def test_candidates_of_one_question_have_the_prompts_that_each_has_alone(ratings: Ratings) -> None:
    """A question that names nobody, and one of a user of today."""
    prompter, catalogue = ratings.prompter(CHEAP), ratings.catalogue()
    lines = catalogue.ratings.rows("196").select("item_id", "rating").to_dicts()[:7]
    seen = {line["item_id"] for line in lines}
    targets = [{"item_id": item} for item in ratings.item_ids if item not in seen][:12]

    def prompts(chosen: list[dict[str, str]]) -> list[str]:
        question = question_of(ScoreRequest.model_validate({"history": lines, "targets": chosen}), catalogue)
        return prompter.prompts(prompter.histories(question), prompter.context(question))

    assert prompts(targets) == [prompt for target in targets for prompt in prompts([target])]
    recent = replace(prompter, method=replace(prompter.method, prompt_form="recent"))
    question = question_of(ScoreRequest.model_validate({"history": lines, "targets": targets}), catalogue)
    one_history = recent.prompts(recent.histories(question), recent.context(question))
    assert len({prompt.rpartition("\n")[0] for prompt in one_history}) == 1
