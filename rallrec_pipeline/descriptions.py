"""Item descriptions: the LLM writes at most `max_words` words from an item's fields (method, step 1).

Every answer is checked. An empty or degenerate one is asked for once more with another seed; if that fails
too, the plain template sentence stands in and is counted. Finished rows go to the cache every few hundred.

So that a run that was broken off ends with the same texts as one that was not, batches are cut from one sorted list,
and the seed of a batch comes from what it asks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.llm_cache import DESCRIPTIONS, LLMCache
from rallrec_pipeline.lake.provenance import hash_column, now, stable_hash
from rallrec_pipeline.language_models.chunks import calls_at_once, in_chunks
from rallrec_pipeline.language_models.protocols import Progress, Sampling, TextGenerator
from rallrec_pipeline.settings import TEMPLATE_GAP, DescriptionSettings
from rallrec_pipeline.text import clean_text

RENDERER_VERSION = "1"  # of how a template is filled in
Status = Literal["written", "retried", "template"]
Row = tuple[str, str, str, Status, int, str, str]
"""A row of `DESCRIPTIONS`."""

MIN_WORDS = 8
MAX_REPEATS = 3  # of one run of four words
MIN_DISTINCT = 0.4  # share of distinct words


@dataclass(frozen=True)
class DescriptionResult:
    """The table; texts that the LLM had to write, those it was asked twice for, rows with the template sentence."""

    table: pl.DataFrame
    computed: int
    retried: int
    templated: int


def template_text(fields: Mapping[str, str], spec: DatasetSpec) -> str:
    """The plain sentence of title and basic fields; also what the title embedding encodes."""
    title = clean_text(fields.get("title", "")) or "untitled"
    rest = "; ".join(f"{name}: {clean_text(v, 120)}" for name in spec.item_fields if (v := fields.get(name, "")))
    return f"{title}, a {spec.words.item}" + (f" ({rest})." if rest else ".")


def description_prompt(fields: Mapping[str, str], spec: DatasetSpec, settings: DescriptionSettings) -> str:
    """What the LLM is asked: the template of the settings, filled in at one go, so that data cannot name a gap."""
    gaps = {
        "item": spec.words.item,
        "max_words": str(settings.max_words),
        "fields": template_text(fields, spec),
    }
    return TEMPLATE_GAP.sub(lambda gap: gaps[gap.group(1)], settings.template)


def template_version(settings: DescriptionSettings) -> str:
    """Short hash of the template's wording."""
    return stable_hash(settings.template, RENDERER_VERSION)[:12]


def is_degenerate(text: str) -> bool:
    """Whether a text is empty, too short, or repeats itself."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < MIN_WORDS or len(set(words)) < MIN_DISTINCT * len(words):
        return True
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    return max(runs.values()) >= MAX_REPEATS


def tidy(text: str, max_words: int) -> str:
    """One paragraph of at most `max_words` words, ended at its last full sentence where that keeps most of it."""
    words = clean_text(text, 4000).split(" ")
    short = " ".join(words[:max_words])
    sentences = re.match(r"^(.*[.!?])(?:\s|$)", short)
    if sentences and len(sentences.group(1)) >= len(short) / 2:
        return sentences.group(1)
    return short


def describe_items(
    items: pl.DataFrame,
    spec: DatasetSpec,
    load_generator: Callable[[], TextGenerator],
    cache: LLMCache,
    settings: DescriptionSettings,
    model_fingerprint: str,
    seed: int,
    run_id: str,
    progress: Progress | None = None,
) -> DescriptionResult:
    """Descriptions of all `items`; only those that the cache lacks are generated, each distinct prompt once.

    The generator is loaded only when there is something to write.
    """
    keys = description_keys(items, spec, settings, model_fingerprint, seed)
    known = set(cache.find(keys)["key"])
    missing = {key: row for key, row in zip(keys, items.iter_rows(named=True), strict=True) if key not in known}
    if missing:
        _generate_all(missing, spec, load_generator(), cache, settings, seed, run_id, progress)
    table = pl.DataFrame({"item_id": items["item_id"], "key": keys}).join(
        cache.find(keys), on="key", how="left", maintain_order="left"
    )
    counts = Counter(table.filter(pl.col("key").is_in(list(missing))).unique("key")["status"])
    return DescriptionResult(
        _with_provenance(table, template_version(settings), model_fingerprint),
        computed=len(missing),
        retried=counts["retried"] + counts["template"],
        templated=Counter(table["status"])["template"],
    )


def description_keys(
    items: pl.DataFrame, spec: DatasetSpec, settings: DescriptionSettings, model_fingerprint: str, seed: int
) -> list[str]:
    """Provenance of each description: prompt, model, sampling and seed."""
    sampling = (settings.max_words, settings.max_new_tokens, settings.temperature, settings.top_p, seed)
    return [
        stable_hash(description_prompt(row, spec, settings), RENDERER_VERSION, model_fingerprint, sampling)
        for row in items.iter_rows(named=True)
    ]


def _generate_all(
    missing: Mapping[str, Mapping[str, str]],
    spec: DatasetSpec,
    generator: TextGenerator,
    cache: LLMCache,
    settings: DescriptionSettings,
    seed: int,
    run_id: str,
    progress: Progress | None,
) -> None:
    """Write the descriptions of `missing` rows, by key."""
    prompts = {key: description_prompt(row, spec, settings) for key, row in missing.items()}
    order = sorted(prompts, key=lambda key: (len(prompts[key]), key))
    pending: list[Row] = []

    def write(batch: Sequence[str], _: Progress | None) -> list[Row]:
        texts = _generate_checked([prompts[key] for key in batch], generator, settings, _batch_seed(batch, seed))
        return [
            (key, prompts[key], text or template_text(missing[key], spec), status, attempts, run_id, now())
            for key, (text, status, attempts) in zip(batch, texts, strict=True)
        ]

    try:
        for rows in in_chunks(write, order, settings.batch_size, calls_at_once(generator), progress):
            pending += rows
            if len(pending) >= settings.flush_every:
                cache.add(pl.DataFrame(pending, schema=list(DESCRIPTIONS), orient="row"))
                pending = []
    finally:  # after an error too: what is finished is never lost
        cache.add(pl.DataFrame(pending, schema=list(DESCRIPTIONS), orient="row"))


def _batch_seed(keys: Sequence[str], seed: int) -> int:
    return int(stable_hash(seed, list(keys))[:8], 16)


def _generate_checked(
    prompts: Sequence[str], generator: TextGenerator, settings: DescriptionSettings, seed: int
) -> list[tuple[str, Status, int]]:
    """(text, status, attempts) per prompt; the text is empty where the template must stand in."""

    def ask(asked: Sequence[str], attempt_seed: int) -> list[str]:
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, attempt_seed)
        return [tidy(text, settings.max_words) for text in generator.generate(asked, sampling)]

    results: list[tuple[str, Status, int]] = [(text, "written", 1) for text in ask(prompts, seed)]
    bad = [i for i, (text, _, _) in enumerate(results) if is_degenerate(text)]
    if bad:
        for i, text in zip(bad, ask([prompts[i] for i in bad], seed + 1_000_003), strict=True):
            results[i] = ("", "template", 2) if is_degenerate(text) else (text, "retried", 2)
    return results


def _with_provenance(table: pl.DataFrame, template: str, model_fingerprint: str) -> pl.DataFrame:
    """The table with each row's own run: a reused text keeps that of the run which wrote it."""
    return table.select(
        "item_id",
        pl.col("text").alias("description"),
        "status",
        "attempts",
        pl.col("key").alias("input_hash"),
        pl.lit(template).alias("template_version"),
        pl.lit(model_fingerprint).alias("model_fingerprint"),
        pl.Series("data_version", hash_column(table["text"]), dtype=pl.String),
        "run_id",
        "created_at",
    )
