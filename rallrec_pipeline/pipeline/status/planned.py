"""Rows for the LLM before there is a table to count them in: what the settings and the dataset's own figures allow."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rallrec_pipeline.descriptions import template_of
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.inference.methods import (
    adapters,
    methods,
    reasoned_methods,
    rescoring_method,
    shown_items,
    tuning_asked,
)
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.recommendations import every_user
from rallrec_pipeline.pipeline.status.pending import Pending, description_tokens
from rallrec_pipeline.pipeline.status.text_lengths import CHARACTERS_PER_TOKEN

# Typical lengths in tokens, of MovieLens with a small model's tokenizer.
ITEM_TOKENS, FRAME_TOKENS, HISTORY_TOKENS = 25.0, 45.0, 10.0


def planned_rows(stage: str, run: StageRun) -> Pending | None:
    """The most rows that there can be, and about how long they are; None where that is unknown, or without an LLM."""
    if stage == "lora_adapter":
        return _lora_adapter(run)
    if stage == "predictions":
        return _predictions(run)
    if stage == "recommendations":
        return _recommendations(run)
    if stage in ("reasoning_traces", "reasoned_predictions"):
        return _reasoned(run, stage)
    if stage in ("new_item_descriptions", "new_item_embeddings"):
        return _new_items(run, stage)
    items = _items(run)
    if items is None:
        return None
    if stage == "item_descriptions":
        asked = len(template_of(run.spec, run.settings.descriptions)) / CHARACTERS_PER_TOKEN
        new = run.settings.descriptions.max_new_tokens
        return Pending(items, items, tokens=ITEM_TOKENS, length=ITEM_TOKENS + asked, new_tokens=new)
    if stage == "title_embeddings":
        return Pending(items, items, tokens=ITEM_TOKENS, length=ITEM_TOKENS)
    if stage == "description_embeddings":
        length = description_tokens(run)
        return Pending(items, items, tokens=length, length=length)
    return None


def _lora_adapter(run: StageRun) -> Pending:
    prompts, tuning = run.settings.prompts, run.settings.tuning
    samples = min(prompts.train_samples, run.spec.protocol.few_shot or prompts.train_samples)
    tuned = adapters(run.settings)
    forms = sum(len(tuning_asked(name, run.settings)) * adapter.repeats for name, adapter in tuned.items())
    rows = samples * forms * tuning.epochs
    checked = prompts.validation_samples * tuning.epochs * len(tuned)
    length = _prompt_tokens(run, [adapter.retriever for adapter in tuned.values()])
    return Pending(rows, rows, tokens=length, length=length, checked=checked, loads=len(tuned))


def _predictions(run: StageRun) -> Pending | None:
    test = _tested(run)
    if test is None:
        return None
    asked = methods(run.settings)
    rows = (test + run.settings.prompts.validation_samples) * len(asked)
    length = _prompt_tokens(run, [method.retriever for method in asked])
    return Pending(rows, rows, tokens=length, length=length, loads=len({method.adapter for method in asked}))


def _reasoned(run: StageRun, stage: str) -> Pending | None:
    """Each way to ask the reasoner gets every prompt; read is each response, and once the prompt without a thought."""
    test, settings = _tested(run), run.settings.reasoning
    if test is None:
        return None
    asked = reasoned_methods(run.settings)
    prompts = (test + run.settings.prompts.validation_samples) * len(asked)
    length = _prompt_tokens(run, [method.asked.retriever for method in asked])
    if stage == "reasoning_traces":
        rows, new = prompts * settings.traces, settings.max_new_tokens
        return Pending(rows, rows, tokens=length / settings.traces, length=length, new_tokens=new)
    rows = prompts * (settings.traces + 1)
    tokens = settings.max_new_tokens + length / (settings.traces + 1)  # a prompt is read once for what follows it
    return Pending(rows, rows, tokens=tokens, length=length + settings.max_new_tokens)


def _recommendations(run: StageRun) -> Pending | None:
    settings = run.settings.recommendations
    name, _ = rescoring_method(run.settings)
    if name is None:
        return Pending(0, 0)
    known = _users(run)
    drawn = [bound for bound in (known, settings.users) if bound]
    reported = [bound for bound in (known, settings.report_users) if bound]  # of each of two splits, at most
    if not drawn or not reported:
        return None
    rows = (min(drawn) + 2 * min(reported)) * settings.shortlist
    length = _prompt_tokens(run, [run.settings.methods[name].retriever])
    bound = settings.tokens_per_user / settings.shortlist if settings.tokens_per_user else length
    return Pending(rows, rows, tokens=min(length, bound), length=length)


def _new_items(run: StageRun, stage: str) -> Pending:
    """As many as the settings allow."""
    most, written = run.settings.recommendations.new_items, description_tokens(run)
    if stage == "new_item_embeddings":
        length = (ITEM_TOKENS + written) / 2
        return Pending(2 * most, 2 * most, tokens=length, length=length)
    asked = len(template_of(run.spec, run.settings.descriptions)) / CHARACTERS_PER_TOKEN
    new = run.settings.descriptions.max_new_tokens
    return Pending(most, most, tokens=ITEM_TOKENS, length=ITEM_TOKENS + asked, new_tokens=new)


def _prompt_tokens(run: StageRun, retrievers: Sequence[str]) -> float:
    """Mean over prompts, about as many of each of `retrievers`."""
    shown = [shown_items(name, run.settings) for name in retrievers]
    return FRAME_TOKENS + HISTORY_TOKENS * sum(shown) / max(1, len(shown))


def _tested(run: StageRun) -> int | None:
    """Test samples that are scored, at most."""
    protocol, wanted = run.spec.protocol, run.settings.prompts.test_samples
    whole = protocol.expected.get("test")
    if whole is None and (samples := protocol.expected.get("samples")) is not None:
        whole = round(samples * protocol.fractions[2])
    bounds = [bound for bound in (wanted or None, protocol.first_test_samples, whole) if bound is not None]
    return min(bounds, default=None)


def _items(run: StageRun) -> int | None:
    """Items, at most: of the core, else of the catalogue, else of the official files."""
    for table in (tables.CORE_ITEMS, tables.ITEMS):
        if run.has(table):
            return _height(run, table)
    return run.spec.protocol.expected.get("items")


def _users(run: StageRun) -> int | None:
    """Users: of the tables, else of the official files."""
    if not (run.has(tables.USERS) and run.has(tables.INTERACTIONS)):
        return run.spec.protocol.expected.get("users")
    try:
        return len(every_user(run))
    except DataError:  # a damaged file
        return None


def _height(run: StageRun, table: tables.Table) -> int | None:
    try:
        return int(run.scan(table).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError:  # a damaged file
        return None
