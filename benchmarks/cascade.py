"""The ten best items of every user of MovieLens-100K by the cascade: an expert scores 200, an LLM is asked about some.

    python benchmarks/cascade.py              all users by `recent`; some by `rallrec`, all computed from these
    python benchmarks/cascade.py --users 60   so many users by each

Timed is all that follows the tables, as in recommendations.py, and with it the prompts and their answers; the engine is
loaded before. The LLM has an adapter that nothing has tuned, and vectors are random: both cost what real ones cost. The
memo is left out, as it is empty in a first run. The history of `recent` is the same for all candidates of a user, so it
is read once; that of `rallrec` is retrieved for each. `rallrec` is also asked about the ten at the border alone.

Needs raw files and the predictor in the lake: `rallrec run movielens-100k --select raw_files,predictor` first (`make
bench` sees to it). Prints one JSON line a method.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl
from movielens import MovieLens
from numpy.typing import NDArray
from recommendations import LIKE_ABOVE, SEED, batch_of, random_vectors
from rows import print_row

from rallrec_pipeline.baselines.expectation import FACTORISATION
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.inference.methods import Method, methods
from rallrec_pipeline.inference.score import in_chat, liking_probability
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import make_facts
from rallrec_pipeline.prompts.render import answer_texts
from rallrec_pipeline.recommendation.asked import (
    expectation_of_today,
    expected_of_today,
    samples_of_today,
    statistics_of_today,
)
from rallrec_pipeline.recommendation.batch import CANDIDATES, CATALOGUE, SHORTLIST, Batch
from rallrec_pipeline.recommendation.cascade import Rescoring
from rallrec_pipeline.recommendation.fit import fit_expert
from rallrec_pipeline.recommendation.recommender import Recommender
from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import (
    ExpertSettings,
    RecommendationSettings,
    RetrievalSettings,
    Settings,
    lake_root,
    load_settings,
)
from rallrec_pipeline.tuning.lora import add_adapter

LIMIT_S, CHUNK, SOME = 600, 256, 100
CASES: tuple[tuple[str, Literal["best", "border"], int, int], ...] = (
    ("recent", "best", 20, 0),
    ("rallrec", "best", 20, SOME),
    ("rallrec", "border", 10, SOME),
)
"""Method, which candidates it is asked about, how many, and of how many users; 0: all."""


def main() -> None:
    """Print one JSON line a method."""
    parser = argparse.ArgumentParser(description="Measure the cascade on all users of MovieLens-100K.")
    parser.add_argument("--users", type=int, help="users, evenly spaced, of each case; 0: all")
    chosen, settings, data = parser.parse_args(), load_settings("demo"), MovieLens.read()
    engine = TransformersEngine.load(model_folder(lake_root(), settings.model), settings.model)
    add_adapter(engine, settings.tuning, SEED)
    known = {method.name: method for method in methods(settings)}
    for name, asked, shortlist, users in CASES:
        recommending = RecommendationSettings(method=name, asked=asked, shortlist=shortlist)
        cascade(engine, known[name], data, settings, recommending, users if chosen.users is None else chosen.users)


def cascade(
    engine: TransformersEngine,
    method: Method,
    data: MovieLens,
    settings: Settings,
    asked: RecommendationSettings,
    users: int,
) -> None:
    """Time all users, or `users` of them."""
    ids = data.items["item_id"].to_list()
    vectors, start = random_vectors(len(ids)), time.perf_counter()
    ratings = Ratings.of(data.core, ids, (), is_sampled=False)
    fit = fit_expert(asked.expert, data.core, data.samples, ids, vectors["text"], LIKE_ABOVE, ExpertSettings(), SEED)
    batch = batch_of(fit, ratings, vectors, asked)
    fitted = time.perf_counter() - start
    batch = replace(batch, rescoring=_rescoring(engine, method, batch, data, settings), dearer=batch.expert)
    every = ratings.visits
    places = np.linspace(0, len(every) - 1, users or len(every)).astype(np.int64)
    engine.usage.prompt_tokens = engine.usage.rows = 0
    start = time.perf_counter()
    steps = batch.run(every[places], None, lambda done, total: None).steps
    worked = time.perf_counter() - start
    seconds = fitted + worked * len(every) / len(places)
    notes = {
        "measured_users": len(places),
        "prompts": engine.usage.rows,
        "prompts_per_second": round(engine.usage.rows / steps[SHORTLIST].seconds, 1),
        "tokens_read_a_prompt": round(engine.usage.prompt_tokens / max(1, engine.usage.rows), 1),
        "seconds_per_million": {
            name: round(steps[name].seconds / steps[name].predictions * 1e6)
            for name in (CATALOGUE, CANDIDATES, SHORTLIST)
        },
        "dtype": str(engine.model.dtype).removeprefix("torch."),
    }
    which = "best" if asked.asked == "best" else "at the border"
    who = f"`{method.name}` asked about the {asked.shortlist} {which}"
    name = f"top 10 of all {len(every)} users of MovieLens-100K by the cascade, {who}"
    print_row(name, "s", seconds, LIMIT_S, "limit", 1, faster_is_less=True, notes=notes)


def _rescoring(
    engine: TransformersEngine, method: Method, batch: Batch, data: MovieLens, settings: Settings
) -> Rescoring:
    """P(yes) of shortlists by `method`, its prompts made and sorted as the stage does."""
    one: Recommender = batch.recommender
    sizes = RetrievalSettings(history_length=settings.retrieval.history_length)
    retriever = Retriever(by_vectors(one.catalogue.mixture), sizes, alpha=0.5)
    answers, known = answer_texts(method.answer_form, data.spec), training_interactions(data.core, data.samples)
    rated = data.core.select("user_id", "item_id", pl.len().over("user_id").alias("history_length"))
    nothing = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "expected": pl.Float32})
    expectation = expectation_of_today(one, FACTORISATION)
    expected = expected_of_today(one, rated, nothing, expectation)

    def ask(visits: Visits, items: Codes, p_yes: NDArray[np.float64]) -> NDArray[np.float64]:
        samples = samples_of_today(one, visits, items)
        histories = retrieve_histories(samples, one.ratings.sequences, retriever)
        foretold = expected_of_today(one, samples, expected, expectation)
        facts = make_facts(method.facts, statistics_of_today(one, samples), samples, known, foretold)
        context = prompt_context(data.spec, data.items, data.users, facts)
        prompts = build_prompts(histories, context, [method.prompt_form], [method.answer_form]).sort("prompt")
        texts, found = prompts["prompt"].to_list(), np.full(items.size, np.nan)
        chunks = [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
        scored = [engine.score(chunk, answers, in_chat(method.answer_form)) for chunk in chunks]
        p = liking_probability(np.concatenate(scored), method.answer_form, data.spec)
        found[prompts["sample_id"].to_numpy()] = p
        return found.reshape(items.shape)

    return ask


if __name__ == "__main__":
    main()
