"""Group `prompts`: what the LLM is tuned on and asked."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline.inference.methods import ADAPTERS, methods, tuning_forms
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun
from rallrec_pipeline.prompts.build import PromptContext, build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import Facts, make_facts


def tuning_prompts(run: StageRun) -> Made:
    histories = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") == "train")
    forms = sorted({form for adapter in ADAPTERS for form in tuning_forms(adapter, run.settings)})
    made = build_prompts(histories, _context(run), forms, [run.settings.prompts.answer_form])
    return _write(run, made, "tuning")


def evaluation_prompts(run: StageRun) -> Made:
    """Validation and test prompts in every prompt form and answer form that a method of the report needs.

    Facts belong to the profile's own answer form; the other one is asked plainly, as a reference.
    """
    histories, context = run.read(tables.RETRIEVED_HISTORIES).filter(pl.col("split") != "train"), _context(run)
    own, plain = run.settings.prompts.answer_form, replace(context, facts=Facts())
    wanted = sorted({(method.prompt_form, method.answer_form) for method in methods(run.settings)})
    made = pl.concat(
        build_prompts(histories, context if answer == own else plain, [form], [answer]) for form, answer in wanted
    )
    return _write(run, made, "evaluation")


def _context(run: StageRun) -> PromptContext:
    wanted = run.settings.prompts.facts
    facts = _facts(run) if wanted else Facts()
    asked = run.read(tables.RETRIEVED_HISTORIES).select("user_id").unique()
    users = run.read(tables.USERS).join(asked, on="user_id", how="semi")
    return prompt_context(run.spec, run.read(tables.CORE_ITEMS), users, facts)


def _facts(run: StageRun) -> Facts:
    core, samples = run.read(tables.CORE_INTERACTIONS), run.read(tables.SAMPLES)
    return make_facts(
        run.settings.prompts.facts,
        rating_statistics(core, samples),
        run.read(tables.RETRIEVED_HISTORIES),
        samples.filter(pl.col("split") == "train") if run.spec.is_implicit else training_interactions(core, samples),
    )


def _write(run: StageRun, made: pl.DataFrame, split: str) -> Made:
    first = made.unique(["prompt_form", "answer_form"], keep="first", maintain_order=True)
    examples = [
        f"**{form}, {answer}**\n\n" + "\n".join("    " + line for line in prompt.split("\n"))
        for form, answer, prompt in first.select("prompt_form", "answer_form", "prompt").rows()
    ]
    counts = {
        f"{f} {a}": n for f, a, n in made.group_by("prompt_form", "answer_form", maintain_order=True).len().rows()
    }
    return run.write(made, tables.prompts_table(split), forms=counts, examples=Markdown("\n\n".join(examples)))
