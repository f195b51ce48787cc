"""P(yes) of prompts: one prefill per prompt, batched by the engine.

With a store, finished rows are kept by what they depend on. What is missing is cut into chunks of one sorted list, each
scored on its own, so that a run that was broken off ends with the same numbers as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.llm_cache import SCORES, LLMCache
from rallrec_pipeline.lake.provenance import now, stable_hash
from rallrec_pipeline.language_models.chunks import calls_at_once, in_chunks
from rallrec_pipeline.language_models.protocols import AnswerScorer, Progress
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.settings import AnswerForm

SCORING_VERSION = "1"  # raise it when the computing changes its output by more than rounding


@dataclass(frozen=True)
class ScoreStore:
    """Where finished rows are kept (of the kind `SCORES`), and what they depend on besides the prompt."""

    cache: LLMCache
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
    scorer: AnswerScorer,
    prompts: pl.DataFrame,
    form: AnswerForm,
    spec: DatasetSpec,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Predictions table: `probabilities` over the answers, `p_yes` the share of those that mean liking."""
    probabilities = scorer.score(prompts["prompt"].to_list(), answer_texts(form, spec), _in_chat(form), progress)
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
    keys = score_keys(texts, form, answers, store)
    found = store.cache.find(keys)
    missing = _missing(keys, texts, found)
    made = list(_score_chunks(missing, load_scorer(), form, answers, store, progress)) if missing else []
    asked = pl.DataFrame({"key": keys}, schema={"key": pl.String})
    rows = asked.join(pl.concat([found, *made]), on="key", how="left", maintain_order="left")
    probabilities = rows["probabilities"].list.to_array(len(answers)).to_numpy().reshape(-1, len(answers))
    return ScoredPrompts(
        _predictions(prompts, probabilities, form, spec),
        prompts.select("sample_id").with_columns(rows["key"].alias("input_hash"), rows["run_id"], rows["created_at"]),
        scored=len(missing),
        seconds=float(rows["seconds"].sum()),
        seconds_now=sum(float(chunk["seconds"].sum()) for chunk in made),
    )


def score_keys(prompts: Sequence[str], form: AnswerForm, answers: Sequence[str], store: ScoreStore) -> list[str]:
    """Provenance of each row: prompt, answers and how they are asked for, model and adapter."""
    depends_on = (SCORING_VERSION, list(answers), _in_chat(form), store.model_fingerprint, store.adapter_version)
    return [stable_hash(prompt, *depends_on) for prompt in prompts]


def liking_probability(probabilities: NDArray[np.float64], form: AnswerForm, spec: DatasetSpec) -> NDArray[np.float64]:
    """Sum over the answers that mean liking; (n, answers) -> (n,)."""
    return np.asarray(probabilities[:, np.array(is_liked(form, spec))].sum(axis=1))


def _missing(keys: Sequence[str], prompts: Sequence[str], found: pl.DataFrame) -> list[tuple[str, str]]:
    """(key, prompt) of what was never scored, ordered by prompt: what begins alike comes into one chunk."""
    known = set(found["key"])
    distinct = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
    return sorted(distinct.items(), key=lambda pair: pair[1])


def _score_chunks(
    missing: Sequence[tuple[str, str]],
    scorer: AnswerScorer,
    form: AnswerForm,
    answers: Sequence[str],
    store: ScoreStore,
    progress: Progress | None,
) -> Iterator[pl.DataFrame]:
    """Rows of `SCORES`, stored chunk by chunk."""

    def score(chunk: Sequence[tuple[str, str]], part: Progress | None) -> pl.DataFrame:
        keys, prompts = zip(*chunk, strict=True)
        begun = time.perf_counter()
        probabilities = scorer.score(prompts, answers, _in_chat(form), part)
        return pl.DataFrame(
            {
                "key": keys,
                "probabilities": probabilities.tolist(),
                "seconds": (time.perf_counter() - begun) / len(keys),
                "run_id": store.run_id,
                "created_at": now(),
            },
            schema=SCORES,
        )

    for rows in in_chunks(score, missing, store.flush_every, calls_at_once(scorer), progress):
        store.cache.add(rows)
        yield rows


def _predictions(
    prompts: pl.DataFrame, probabilities: NDArray[np.float64], form: AnswerForm, spec: DatasetSpec
) -> pl.DataFrame:
    return prompts.select("sample_id", "split", "label").with_columns(
        pl.Series("p_yes", liking_probability(probabilities, form, spec), dtype=pl.Float64),
        pl.Series("probabilities", probabilities.tolist(), dtype=pl.List(pl.Float32)),
    )


def _in_chat(form: AnswerForm) -> bool:
    """Whether a prompt goes through the model's chat template."""
    return form == "yes_no"
