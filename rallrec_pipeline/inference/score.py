"""P(yes) of prompts: one prefill per prompt, batched by the engine.

With a store, finished rows are kept by what they depend on. Prompts are scored in their order as texts: what begins
alike comes into one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.protocols import AnswerScorer, Progress
from rallrec_pipeline.language_models.rows import complete_rows
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.settings import AnswerForm

SCORING_VERSION = "1"  # raise it when the computing changes its output by more than rounding


@dataclass(frozen=True)
class ScoreStore:
    """Where finished rows are kept (a memo of `SCORES`), and what they depend on besides the prompt."""

    memo: Memo
    model_fingerprint: str
    """Of the weights, the tokenizer and the numbers that they compute with."""
    adapter_version: str
    """Empty without an adapter."""
    run_id: str
    flush_every: int


@dataclass(frozen=True)
class ScoredPrompts:
    """The predictions table, and what it cost."""

    table: pl.DataFrame
    rows: pl.DataFrame
    """Provenance of each row: `sample_id`, `input_hash`, and the `run_id` and `created_at` of when it was scored."""
    scored: int
    """Rows that the LLM had to score now."""
    seconds: float
    """What all rows took, whichever run scored them."""
    seconds_now: float
    """What the rows took that were scored now."""


def score_prompts(
    scorer: AnswerScorer, prompts: pl.DataFrame, form: AnswerForm, spec: DatasetSpec, progress: Progress | None = None
) -> pl.DataFrame:
    """Predictions table: `probabilities` over the answers, `p_yes` the share of those that mean liking."""
    probabilities = scorer.score(prompts["prompt"].to_list(), answer_texts(form, spec), in_chat(form), progress)
    return _predictions(prompts, probabilities, form, spec)


def score_missing_prompts(
    load_scorer: Callable[[], AnswerScorer],
    prompts: pl.DataFrame,
    form: AnswerForm,
    spec: DatasetSpec,
    store: ScoreStore,
    progress: Progress | None = None,
) -> ScoredPrompts:
    """As `score_prompts`, but only rows that `store` lacks are scored, each distinct prompt once.

    The scorer is loaded only when there is something to score.
    """
    texts, answers = prompts["prompt"].to_list(), answer_texts(form, spec)

    def score(scorer: AnswerScorer, batch: Mapping[str, str], part: Progress | None) -> dict[str, list[Any]]:
        begun = time.perf_counter()
        probabilities = scorer.score(list(batch.values()), answers, in_chat(form), part)
        seconds = (time.perf_counter() - begun) / len(batch)
        return {"probabilities": probabilities.tolist(), "seconds": [seconds] * len(batch)}

    keys = score_keys(texts, form, answers, store)
    done = complete_rows(keys, texts, store.memo, load_scorer, score, str, store.flush_every, store.run_id, progress)
    rows = done.rows
    probabilities = rows["probabilities"].list.to_array(len(answers)).to_numpy().reshape(-1, len(answers))
    return ScoredPrompts(
        _predictions(prompts, probabilities, form, spec),
        prompts.select("sample_id").with_columns(rows["key"].alias("input_hash"), rows["run_id"], rows["created_at"]),
        scored=done.made.height,
        seconds=float(rows["seconds"].sum()),
        seconds_now=float(done.made["seconds"].sum()),
    )


def score_keys(prompts: Sequence[str], form: AnswerForm, answers: Sequence[str], store: ScoreStore) -> list[str]:
    """Provenance of each row: prompt, answers and how they are asked for, model and adapter."""
    depends_on = (SCORING_VERSION, list(answers), in_chat(form), store.model_fingerprint, store.adapter_version)
    return [stable_hash(prompt, *depends_on) for prompt in prompts]


def liking_probability(probabilities: NDArray[np.float64], form: AnswerForm, spec: DatasetSpec) -> NDArray[np.float64]:
    """Sum over the answers that mean liking; (n, answers) -> (n,)."""
    return np.asarray(probabilities[:, np.array(is_liked(form, spec))].sum(axis=1))


def _predictions(
    prompts: pl.DataFrame, probabilities: NDArray[np.float64], form: AnswerForm, spec: DatasetSpec
) -> pl.DataFrame:
    return prompts.select("sample_id", "split", "label").with_columns(
        pl.Series("p_yes", liking_probability(probabilities, form, spec), dtype=pl.Float64),
        pl.Series("probabilities", probabilities.tolist(), dtype=pl.List(pl.Float32)),
    )


def in_chat(form: AnswerForm) -> bool:
    """Whether a prompt goes through the model's chat template."""
    return form == "yes_no"
