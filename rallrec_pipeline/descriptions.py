"""Item descriptions: the LLM writes at most `max_words` words from an item's fields (method, step 1).

Every answer is checked. An empty or degenerate one is asked for once more with another seed; if that fails
too, the plain template sentence stands in and is counted. Finished rows go to the cache every few hundred.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.llm_cache import SCHEMA, LLMCache
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.lake.text import clean_text
from rallrec_pipeline.language_models.protocols import Progress, Sampling, TextGenerator
from rallrec_pipeline.settings import DescriptionSettings

TEMPLATE_VERSION = "1"
Status = Literal["written", "retried", "template"]

MIN_WORDS = 8
MAX_REPEATS = 3  # of one run of four words
MIN_DISTINCT = 0.4  # share of distinct words


@dataclass(frozen=True)
class DescriptionResult:
    """The table, and how many rows came from where."""

    table: pl.DataFrame
    generated: int
    reused: int
    retried: int
    templated: int


def template_text(fields: Mapping[str, str], spec: DatasetSpec) -> str:
    """The plain sentence of title and basic fields; also what the title embedding encodes."""
    title = clean_text(fields.get("title", "")) or "untitled"
    rest = "; ".join(f"{name}: {clean_text(v, 120)}" for name in spec.item_fields if (v := fields.get(name, "")))
    return f"{title}, a {spec.words.item}" + (f" ({rest})." if rest else ".")


def description_prompt(fields: Mapping[str, str], spec: DatasetSpec, max_words: int) -> str:
    """What the LLM is asked."""
    item = spec.words.item
    return (
        f"Describe this {item} in at most {max_words} words, in plain sentences: what it is about without giving "
        "away the end, themes and genre, setting, key characters, who made it, style and tone, its place in "
        f"culture.\n{template_text(fields, spec)}"
    )


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
    generator: TextGenerator | None,
    cache: LLMCache,
    settings: DescriptionSettings,
    model_fingerprint: str,
    seed: int,
    run_id: str,
    progress: Progress | None = None,
) -> DescriptionResult:
    """Descriptions of all `items`; only those that the cache lacks are generated.

    `generator` may be None when nothing is missing (compare `description_keys` with the cache).
    """
    rows = list(items.iter_rows(named=True))
    keys = description_keys(items, spec, settings, model_fingerprint, seed)
    known = set(cache.find(keys)["key"])
    todo = [i for i, key in enumerate(keys) if key not in known]
    if todo:
        assert generator is not None
        _generate_all(
            [rows[i] for i in todo], [keys[i] for i in todo], spec, generator, cache, settings, seed, run_id, progress
        )
    found = cache.find(keys)
    table = pl.DataFrame({"item_id": items["item_id"], "key": keys}).join(found, on="key", maintain_order="left")
    made = table.filter(pl.col("key").is_in([keys[i] for i in todo]))
    counts = Counter(made["status"])
    return DescriptionResult(
        _with_provenance(table, model_fingerprint),
        generated=len(todo),
        reused=len(keys) - len(todo),
        retried=counts["retried"] + counts["template"],
        templated=Counter(table["status"])["template"],
    )


def description_keys(
    items: pl.DataFrame, spec: DatasetSpec, settings: DescriptionSettings, model_fingerprint: str, seed: int
) -> list[str]:
    """Provenance of each description: prompt, template version, model, sampling and seed."""
    sampling = (settings.max_words, settings.max_new_tokens, settings.temperature, settings.top_p, seed)
    return [
        stable_hash(description_prompt(row, spec, settings.max_words), TEMPLATE_VERSION, model_fingerprint, sampling)
        for row in items.iter_rows(named=True)
    ]


def _generate_all(
    rows: Sequence[Mapping[str, str]],
    keys: Sequence[str],
    spec: DatasetSpec,
    generator: TextGenerator,
    cache: LLMCache,
    settings: DescriptionSettings,
    seed: int,
    run_id: str,
    progress: Progress | None,
) -> None:
    prompts = [description_prompt(row, spec, settings.max_words) for row in rows]
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    pending: list[tuple[str, str, Status, int, str, str]] = []
    for start in range(0, len(order), settings.batch_size):
        batch = [int(i) for i in order[start : start + settings.batch_size]]
        texts = _generate_checked([prompts[i] for i in batch], generator, settings, seed + start)
        for i, (text, status, attempts) in zip(batch, texts, strict=True):
            pending.append((keys[i], text or template_text(rows[i], spec), status, attempts, run_id, now()))
        if len(pending) >= settings.flush_every or start + len(batch) == len(order):
            cache.add(pl.DataFrame(pending, schema=list(SCHEMA), orient="row"))
            pending = []
        if progress is not None:
            progress(start + len(batch), len(order))


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


def _with_provenance(table: pl.DataFrame, model_fingerprint: str) -> pl.DataFrame:
    """The table with each row's own run: a reused text keeps that of the run which wrote it."""
    return table.select(
        "item_id",
        pl.col("text").alias("description"),
        "status",
        "attempts",
        pl.col("key").alias("input_hash"),
        pl.lit(TEMPLATE_VERSION).alias("template_version"),
        pl.lit(model_fingerprint).alias("model_fingerprint"),
        pl.col("text").map_elements(stable_hash, return_dtype=pl.String).alias("data_version"),
        "run_id",
        "created_at",
    )
