"""Group `prompts`: what the LLM is tuned on and asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl

from rallrec_pipeline.baselines.expectation import FACTORISATION, Weights
from rallrec_pipeline.baselines.opinions import expected_ratings as expected_of
from rallrec_pipeline.baselines.opinions import rated_rows
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.inference.methods import (
    Asked,
    adapters,
    methods,
    reasoned_methods,
    tuning_asked,
    validation_method,
)
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.prompts.build import PromptContext, build_prompts, prompt_context, without_titles
from rallrec_pipeline.prompts.facts import Facts, make_facts
from rallrec_pipeline.settings import Fact, Settings


def expected_ratings(run: StageRun) -> Made:
    """What is expected of every core interaction and every sample, out of time."""
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    pair = ["user_id", "item_id"]
    rated = rated_rows(core, core.select(pair)).select(*pair, "history_length")
    negatives = samples.join(core, on=pair, how="anti").select(rated.columns).unique(pair, maintain_order=True)
    asked, like_above = pl.concat([rated, negatives]), run.spec.label.like_above
    item_ids = run.read(tables.CORE_ITEMS)["item_id"].to_list()
    by, progress = run.settings.prompts.expected_by, run.progress("expected ratings")
    found, weights = expected_of(core, samples, item_ids, asked, like_above, run.seeds.fits, by, progress)
    told = {"weights": asdict(weights)} if weights != FACTORISATION else {}
    return run.write(found.select(*pair, "expected"), tables.EXPECTED_RATINGS, **told)


def stated_weights(run: StageRun) -> Weights:
    """What the input `expected_ratings` was weighed by."""
    told = run.given("expected_ratings").metadata
    return Weights(**told["weights"]) if "weights" in told else FACTORISATION


def tuning_prompts(run: StageRun) -> Made:
    """Training samples in the prompt forms of each adapter, as the adapter's retriever sees them."""
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "train")
    wanted = {asked for name in adapters(run.settings) for asked in tuning_asked(name, run.settings)}
    return _write(run, prompts_of(run, histories, sorted(wanted)), "tuning")


def evaluation_prompts(run: StageRun) -> Made:
    """Validation and test prompts of every method, and those that adapters are validated on."""
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train")
    return _write(run, prompts_of(run, histories, evaluation_asked(run.settings)), "evaluation")


def evaluation_asked(settings: Settings) -> list[Asked]:
    """How methods ask, the reasoner too, and adapters where they are validated, each way once."""
    validated = [validation_method(name, settings) for name in adapters(settings)]
    reasoned = {method.asked for method in reasoned_methods(settings)}
    return sorted(reasoned | {method.asked for method in (*methods(settings), *validated)})


def prompts_of(run: StageRun, histories: pl.DataFrame, asked: Sequence[Asked]) -> pl.DataFrame:
    """The prompts of rows of `retrieved_histories`, each asked in each of the ways `asked` of its retriever."""
    contexts = {facts: _context(run, histories, facts) for facts in {one.facts for one in asked}}
    made = [
        build_prompts(
            histories.filter(pl.col("retriever") == one.retriever),
            contexts[one.facts] if one.titles else without_titles(contexts[one.facts]),
            [one.prompt_form],
            [one.answer_form],
        ).with_columns(pl.lit(value).alias(column) for column, value in one.as_columns().items())
        for one in asked
    ]
    return pl.concat([pl.DataFrame(schema=tables.prompts_table("tuning").columns), *made])


def _context(run: StageRun, histories: pl.DataFrame, wanted: Sequence[Fact]) -> PromptContext:
    asked = histories.select("user_id").unique()
    users = run.read(tables.USERS).join(asked, on="user_id", how="semi")
    facts, longest = _facts(run, wanted) if wanted else Facts(), run.settings.prompts.title_characters
    return prompt_context(run.spec, run.read(tables.CORE_ITEMS), users, facts, longest)


def _facts(run: StageRun, wanted: Sequence[Fact]) -> Facts:
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    return make_facts(
        wanted,
        rating_statistics(core, samples),
        run.read(tables.RETRIEVED_HISTORIES).unique("sample_id", keep="first", maintain_order=True),
        samples.filter(pl.col("split") == "train") if run.spec.is_implicit else training_interactions(core, samples),
        run.read(tables.EXPECTED_RATINGS),
    )


def _write(run: StageRun, made: pl.DataFrame, split: str) -> Made:
    first = made.unique(["retriever", "prompt_form", "answer_form"], keep="first", maintain_order=True)
    examples = [
        f"**{form}, {answer}, {by}**\n\n" + "\n".join("    " + line for line in prompt.split("\n"))
        for form, answer, by, prompt in first.select("prompt_form", "answer_form", "retriever", "prompt").rows()
    ]
    counts = {
        f"{f} {a}": n for f, a, n in made.group_by("prompt_form", "answer_form", maintain_order=True).len().rows()
    }
    return run.write(made, tables.prompts_table(split), forms=counts, examples=Markdown("\n\n".join(examples)))
