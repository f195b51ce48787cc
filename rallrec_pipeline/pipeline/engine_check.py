"""Whether the engines give the same answers on a dataset's own prompts, for `rallrec engines`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.inference.methods import adapters
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.locks import LLM, lake_lock
from rallrec_pipeline.language_models.agreement import Agreement, Questions, Reading, compare, read_engine
from rallrec_pipeline.language_models.engines.choice import INSTALL, EngineName, choose_engine, load_chosen, vllm_build
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.embeddings import description_texts
from rallrec_pipeline.pipeline.stages.engine import engine_settings
from rallrec_pipeline.pipeline.stages.model import checkpoint
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.settings import AnswerForm

PROMPTS = 200  # of each check, and as many texts
ADAPTER = "rallrec"
ENGINES: tuple[EngineName, EngineName] = ("transformers", "vllm")
FORMS: tuple[AnswerForm, ...] = ("yes_no", "rating")


def check_engines(run: StageRun, prompts: int = PROMPTS) -> Iterator[tuple[str, Agreement]]:
    """What was loaded and how transformers and vLLM agree: the base model, and the adapter where one was tuned.

    Each comes as soon as it is known. Both compute with the settings' dtype and whole weights. Raises ConfigError when
    vLLM is not installed or the dataset has no prompts yet.
    """
    run = run.in_role("predictor")
    if not run.has(tables.prompts_table("evaluation")):
        raise ConfigError(f"{run.dataset!r} has no prompts yet: run `rallrec run {run.dataset}` first")
    if vllm_build() is None:
        raise ConfigError(f"vLLM is not installed, so there is no second engine to compare with: {INSTALL}")
    rows = run.read(tables.prompts_table("evaluation")).filter(pl.col("prompt_form") == "reranked")
    tuned = run.settings.prompts.answer_form
    both = [_questions(run, rows, form, prompts // len(FORMS)) for form in FORMS if form in set(rows["answer_form"])]
    asked: dict[str, tuple[Path | None, list[Questions]]] = {"base model": (None, both)}
    if "lora_adapter" in run.inputs and ADAPTER in adapters(run.settings):
        asked[f"adapter {ADAPTER}"] = (checkpoint(run, ADAPTER), [_questions(run, rows, tuned, prompts)])
    texts = description_texts(run.read(tables.CORE_ITEMS), run.read(tables.ITEM_DESCRIPTIONS))[:prompts]
    with lake_lock(run.lake, LLM, run.log):
        for name, (folder, forms) in asked.items():
            readings = [_read(run, engine, folder, forms, texts) for engine in ENGINES]
            yield name, compare(*readings)


def _questions(run: StageRun, rows: pl.DataFrame, form: AnswerForm, at_most: int) -> Questions:
    prompts = rows.filter(pl.col("answer_form") == form)["prompt"].unique(maintain_order=True)
    chosen = prompts.sample(min(at_most, len(prompts)), seed=run.seeds.data)
    return Questions(chosen.to_list(), answer_texts(form, run.spec), is_liked(form, run.spec), form == "yes_no")


def _read(run: StageRun, name: EngineName, adapter: Path | None, forms: list[Questions], texts: list[str]) -> Reading:
    """What one engine makes of them; it is closed before the next one is loaded."""
    settings = engine_settings(run).model_copy(update={"engine": name, "load_in_8bit": False})
    run.log(f"{name}: {sum(len(form.prompts) for form in forms)} prompts, {len(texts)} texts")
    with closing(load_chosen(choose_engine(settings), model_folder(run.lake, settings), settings, adapter)) as engine:
        return read_engine(engine, forms, texts, lambda what: run.progress(f"{name}: {what}"))
