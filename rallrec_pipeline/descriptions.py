"""Item descriptions: the LLM writes at most `max_words` words from an item's fields (method, step 1).

Every answer is checked. An empty or degenerate one is asked for once more with another seed; if that fails
too, the plain template sentence stands in and is counted. The seed of a batch comes from what it asks, so that a run
that was broken off ends with the same texts as one that was not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.provenance import hash_column, stable_hash
from rallrec_pipeline.language_models.chunks import writes_at_once
from rallrec_pipeline.language_models.protocols import Progress, Sampling, TextGenerator
from rallrec_pipeline.language_models.rows import complete_rows
from rallrec_pipeline.settings import TEMPLATE_GAP, DescriptionSettings
from rallrec_pipeline.text import clean_text

RENDERER_VERSION = "1"  # of how a template is filled in
Status = Literal["written", "retried", "template"]
Item = Mapping[str, str]
"""Fields of an item by name."""

WORKS = re.compile(
    "album|anime|audiobook|book|comic|documentary|episode|film|game|manga|movie|music|musical|novel|opera|play|podcast"
    "|series|show|song|story|track|video"
)
"""Words of datasets whose items have a plot, a maker and a place in culture."""
ANY_THING = (
    "Describe this {item} in at most {max_words} words, in plain sentences: what it is, what it is for and how it is "
    "used, whom it suits, what sets it apart from others of its kind{about}.\n{fields}"
)
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


def template_text(fields: Item, spec: DatasetSpec) -> str:
    """The plain sentence of title and basic fields; also what the title embedding encodes."""
    title = clean_text(fields.get("title", "")) or "untitled"
    rest = "; ".join(f"{name}: {clean_text(v, 120)}" for name in spec.item_fields if (v := fields.get(name, "")))
    return f"{title}, a {spec.words.item}" + (f" ({rest})." if rest else ".")


def template_of(spec: DatasetSpec, settings: DescriptionSettings) -> str:
    """The template of the settings; where these name none and the items are no works, one of any thing and its fields.

    The default asks for plot, characters and genre, as the papers do, of which a lamp has none.
    """
    is_work = WORKS.fullmatch(spec.words.item.lower().rpartition(" ")[2]) is not None
    if is_work or settings.template != DescriptionSettings().template:
        return settings.template
    names = [re.sub(r"[{}_]+", " ", clean_text(name)) for name in spec.item_fields]
    return ANY_THING.replace("{about}", f", what follows from its {', '.join(names)}" if names else "")


def description_prompt(fields: Item, spec: DatasetSpec, settings: DescriptionSettings) -> str:
    """What the LLM is asked: the template, filled in at one go, so that data cannot name a gap."""
    gaps = {
        "item": spec.words.item,
        "max_words": str(settings.max_words),
        "fields": template_text(fields, spec),
    }
    return TEMPLATE_GAP.sub(lambda gap: gaps[gap.group(1)], template_of(spec, settings))


def template_version(spec: DatasetSpec, settings: DescriptionSettings) -> str:
    """Short hash of the template's wording."""
    return stable_hash(template_of(spec, settings), RENDERER_VERSION)[:12]


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
    memo: Memo,
    settings: DescriptionSettings,
    model_fingerprint: str,
    seed: int,
    run_id: str,
    progress: Progress | None = None,
) -> DescriptionResult:
    """Descriptions of all `items`; only those that `memo` lacks are generated, each distinct prompt once.

    The generator is loaded only when there is something to write.
    """

    def write(generator: TextGenerator, batch: Mapping[str, Item], report: Progress | None) -> dict[str, list[Any]]:
        prompts = [description_prompt(item, spec, settings) for item in batch.values()]
        batch_seed = int(stable_hash(seed, list(batch))[:8], 16)
        written = _generate_checked(prompts, generator, settings, batch_seed, report)
        return {
            "prompt": prompts,
            "text": [
                text or template_text(item, spec) for (text, *_), item in zip(written, batch.values(), strict=True)
            ],
            "status": [status for _, status, _ in written],
            "attempts": [attempts for *_, attempts in written],
        }

    done = complete_rows(
        description_keys(items, spec, settings, model_fingerprint, seed),
        items.rows(named=True),
        memo,
        load_generator,
        write,
        lambda item: len(description_prompt(item, spec, settings)),
        settings.batch_size,
        run_id,
        progress,
        at_once=writes_at_once,
    )
    table = done.rows.with_columns(items["item_id"])
    return DescriptionResult(
        _with_provenance(table, template_version(spec, settings), model_fingerprint),
        computed=done.made.height,
        retried=done.made.filter(pl.col("status") != "written").height,
        templated=table.filter(pl.col("status") == "template").height,
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


def _generate_checked(
    prompts: Sequence[str],
    generator: TextGenerator,
    settings: DescriptionSettings,
    seed: int,
    progress: Progress | None,
) -> list[tuple[str, Status, int]]:
    """(text, status, attempts) per prompt; the text is empty where the template must stand in."""

    def ask(asked: Sequence[str], attempt_seed: int, report: Progress | None = None) -> list[str]:
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, attempt_seed)
        return [tidy(text, settings.max_words) for text in generator.generate(asked, sampling, report)]

    results: list[tuple[str, Status, int]] = [(text, "written", 1) for text in ask(prompts, seed, progress)]
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
