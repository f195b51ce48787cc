"""How many rows the LLM would have to work on for a stage, without any work: the stage's own keys against its cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.descriptions import description_keys, description_prompt
from rallrec_pipeline.embeddings.text import text_keys
from rallrec_pipeline.inference.methods import ADAPTERS, Method, methods
from rallrec_pipeline.inference.score import score_keys
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.increments import Increment, compare_rows
from rallrec_pipeline.lake.llm_cache import DESCRIPTIONS, LLMCache
from rallrec_pipeline.lake.vectors import VectorStore
from rallrec_pipeline.orchestration.assets.embeddings import description_texts, title_texts
from rallrec_pipeline.orchestration.assets.engine import model_version
from rallrec_pipeline.orchestration.assets.model import is_tuned, score_store, scored_rows, tuning_rows
from rallrec_pipeline.orchestration.run import StageRun
from rallrec_pipeline.prompts.render import answer_texts

SAMPLE = 200  # texts that the length of a text is taken from


@dataclass(frozen=True)
class Pending:
    """Rows that the LLM would have to work on.

    `increment` is known when no input is stale. `characters` is the mean length of a row's text, `new_tokens` the most
    that is written for one.
    """

    rows: int
    """As the inputs are now."""
    at_most: int
    """Whatever stale inputs turn out to be, as long as they have as many rows."""
    increment: Increment | None = None
    characters: float = 0.0
    new_tokens: int = 0


def pending_rows(stage: str, run: StageRun, stale: Collection[str]) -> Pending | None:
    """What `stage` would ask of the LLM, when of its inputs those in `stale` are not fresh; None without an LLM.

    Raises StaleArtefactError when a table that it reads was never made, DataError when a file is damaged.
    """
    count = _COUNTS.get(stage)
    return None if count is None else count(run, frozenset(stale))


def _item_descriptions(run: StageRun, stale: frozenset[str]) -> Pending:
    items, settings = run.read(tables.CORE_ITEMS), run.settings.descriptions
    keys = _description_keys(run, items)
    lacking = set(keys) - LLMCache(run.lake, "descriptions", DESCRIPTIONS).known(keys)
    prompts = [description_prompt(row, run.spec, settings) for row in items.head(SAMPLE).iter_rows(named=True)]
    return _counted(run, "item_descriptions", items, keys, lacking, stale, prompts, settings.max_new_tokens)


def _title_embeddings(run: StageRun, stale: frozenset[str]) -> Pending:
    items = run.read(tables.CORE_ITEMS)
    texts = title_texts(run, items)
    keys = text_keys(texts, model_version(run))
    lacking = set(keys) - VectorStore(run.lake, run.dataset, "title").known(keys)
    return _counted(run, "title_embeddings", items, keys, lacking, stale, texts)


def _description_embeddings(run: StageRun, stale: frozenset[str]) -> Pending:
    """Where only the descriptions are stale, those that the LLM has written before are known by their keys."""
    items, store = run.read(tables.CORE_ITEMS), VectorStore(run.lake, run.dataset, "description")
    model, at_most = model_version(run), items.height
    if stale == {"item_descriptions"}:
        asked = set(_description_keys(run, items))
        found = LLMCache(run.lake, "descriptions", DESCRIPTIONS).find(list(asked))
        known = set(text_keys(found["text"].to_list(), model))
        at_most = len(asked) - found.height + len(known - store.known(list(known)))
    if not tables.ITEM_DESCRIPTIONS.exists(run.lake, run.dataset):
        return Pending(at_most, at_most)
    texts = description_texts(items, run.read(tables.ITEM_DESCRIPTIONS))
    keys = text_keys(texts, model)
    lacking = set(keys) - store.known(keys)
    counted = _counted(run, "description_embeddings", items, keys, lacking, stale, [text or "" for text in texts])
    return Pending(counted.rows, at_most if stale else counted.rows, counted.increment, counted.characters)


def _lora_adapter(run: StageRun, stale: frozenset[str]) -> Pending:
    """Examples times epochs, of the adapters that are not those of the prompts."""
    rows = {adapter: tuning_rows(run, adapter) for adapter in ADAPTERS}
    examples = {adapter: prompts.height * run.settings.tuning.epochs for adapter, prompts in rows.items()}
    lacking = sum(examples[adapter] for adapter, prompts in rows.items() if not is_tuned(run, adapter, prompts))
    texts = pl.concat(rows.values())["prompt"].to_list()
    return Pending(lacking, sum(examples.values()) if stale else lacking, characters=_mean_length(texts))


def _predictions(run: StageRun, stale: frozenset[str]) -> Pending:
    """A zero-shot method does not wait for an adapter; a prompt that two methods share is scored once."""
    lacking, exact = set[str](), set[str]()
    bounded = 0
    texts: list[str] = []
    for method in methods(run.settings):
        rows = scored_rows(run, method)
        missing = _unscored(run, method, rows)
        lacking |= missing
        if stale - ({"lora_adapter"} if method.adapter is None else set()):
            bounded += rows.height
        else:
            exact |= missing
        texts += rows["prompt"].head(SAMPLE // len(methods(run.settings))).to_list()
    return Pending(len(lacking), len(exact) + bounded, characters=_mean_length(texts))


_COUNTS: Mapping[str, Callable[[StageRun, frozenset[str]], Pending]] = {
    "item_descriptions": _item_descriptions,
    "title_embeddings": _title_embeddings,
    "description_embeddings": _description_embeddings,
    "lora_adapter": _lora_adapter,
    "predictions": _predictions,
}


def _counted(
    run: StageRun,
    stage: str,
    items: pl.DataFrame,
    keys: Sequence[str],
    lacking: Collection[str],
    stale: frozenset[str],
    texts: Sequence[str],
    new_tokens: int = 0,
) -> Pending:
    wanted = pl.DataFrame({"item_id": items["item_id"], "input_hash": keys})
    increment = None if stale else compare_rows(wanted, run.previous_rows(stage), len(lacking))
    at_most = items.height if stale else len(lacking)
    return Pending(len(lacking), at_most, increment, _mean_length(texts), new_tokens)


def _description_keys(run: StageRun, items: pl.DataFrame) -> list[str]:
    return description_keys(items, run.spec, run.settings.descriptions, model_version(run), run.seed)


def _unscored(run: StageRun, method: Method, rows: pl.DataFrame) -> set[str]:
    """Keys of a method's prompts that were never scored with the adapter that is there, if there is one."""
    store = score_store(run, method)
    keys = score_keys(rows["prompt"].to_list(), method.answer_form, answer_texts(method.answer_form, run.spec), store)
    return set(keys) - store.cache.known(keys)


def _mean_length(texts: Sequence[str]) -> float:
    sample = texts[:SAMPLE]
    return sum(map(len, sample)) / max(1, len(sample))
