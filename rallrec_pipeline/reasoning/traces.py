"""Sampled responses of the reasoner: several to a prompt, each a finished row of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.chunks import calls_at_once, writes_at_once
from rallrec_pipeline.language_models.protocols import Progress, Sampling, TextGenerator
from rallrec_pipeline.language_models.rows import complete_rows
from rallrec_pipeline.settings import ReasoningSettings

TRACES_VERSION = "1"  # raise it when the sampling changes its output


@dataclass(frozen=True)
class Wanted:
    """One response that is wanted: its prompt, which of the prompt's it is, and how soon it is needed."""

    prompt: str
    trace: int
    """The first is 0."""
    rank: int = 0
    """Lower ones are written first."""


@dataclass(frozen=True)
class TraceStore:
    """Where responses are kept (a memo of `TRACES`), and what they depend on besides the prompt."""

    memo: Memo
    model_fingerprint: str
    seed: int
    run_id: str


def trace_keys(wanted: Sequence[Wanted], settings: ReasoningSettings, store: TraceStore) -> list[str]:
    """Provenance of each response: prompt, number, model, sampling and seed."""
    sampling = (settings.max_new_tokens, settings.temperature, settings.top_p, store.seed)
    depends_on = (TRACES_VERSION, store.model_fingerprint, sampling)
    return [stable_hash(one.prompt, one.trace, *depends_on) for one in wanted]


def sample_traces(
    wanted: Sequence[Wanted],
    load_generator: Callable[[], TextGenerator],
    settings: ReasoningSettings,
    store: TraceStore,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """A row for each of `wanted` that is finished: its place `at` there, `key`, `text`, `tokens`, `ended`, `seconds`,
    `run_id`, `created_at` and `now`, whether it was written now.

    Only what the memo lacks is written. Responses to one prompt lie beside one another, so that they share its prefill.
    With `max_tokens` no batch is begun after so many new tokens; those known before count too, and batches in work are
    finished and kept.
    """
    keys = trace_keys(wanted, settings, store)
    # A list, as several engines write at a time: appending is one step, adding to a number is not.
    spent = [int(store.memo.find(keys)["tokens"].sum())] if settings.max_tokens else [0]

    def write(generator: TextGenerator, batch: Mapping[str, Wanted], report: Progress | None) -> dict[str, list[Any]]:
        begun, seed = time.perf_counter(), int(stable_hash(store.seed, list(batch))[:8], 16)
        sampling = Sampling(settings.max_new_tokens, settings.temperature, settings.top_p, seed)
        written = generator.write([one.prompt for one in batch.values()], sampling, thinks=True, progress=report)
        beside = writes_at_once(generator) / calls_at_once(generator)  # batches that share one machine
        seconds = (time.perf_counter() - begun) / len(batch) / beside
        spent.append(sum(text.tokens for text in written))
        return {
            "text": [text.text for text in written],
            "tokens": [text.tokens for text in written],
            "ended": [int(text.ended) for text in written],
            "seconds": [seconds] * len(written),
        }

    done = complete_rows(
        keys,
        wanted,
        store.memo,
        load_generator,
        write,
        lambda one: (one.rank, len(one.prompt), one.prompt, one.trace),
        settings.batch_size,
        store.run_id,
        progress,
        lambda: 0 < settings.max_tokens <= sum(spent),
        writes_at_once,
    )
    place = pl.DataFrame({"key": keys, "at": range(len(keys))}, schema={"key": pl.String, "at": pl.Int64})
    now = pl.col("key").is_in(done.made["key"].implode())
    return place.join(done.rows.unique("key"), on="key", how="left", maintain_order="left").with_columns(
        now.alias("now")
    )
