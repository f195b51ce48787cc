"""P(yes) at the answer position after each thought: one prefill of the prompt for all of its thoughts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from rallrec_pipeline.inference.score import SCORING_VERSION, ScoreStore
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.protocols import AnswerScorer, Progress
from rallrec_pipeline.language_models.rows import complete_rows

Said = tuple[str, str]
"""A prompt, and what the assistant has said before its answer (`prompts.before_answer`)."""


def read_answers(
    asked: Sequence[Said],
    answers: Sequence[str],
    load_scorer: Callable[[], AnswerScorer],
    store: ScoreStore,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """A row for each of `asked`, in order: `key`, `probabilities` over the answers, `seconds`, `run_id`, `created_at`
    and `now`, whether it was read now.
    """
    depends_on = (SCORING_VERSION, list(answers), store.model_fingerprint, store.adapter_version)
    keys = [stable_hash(*said, *depends_on) for said in asked]

    def read(scorer: AnswerScorer, batch: Mapping[str, Said], part: Progress | None) -> dict[str, list[Any]]:
        begun = time.perf_counter()
        prompts, said = zip(*batch.values(), strict=True)
        found = scorer.score(prompts, answers, True, part, said)
        return {
            "probabilities": found.tolist(),
            "seconds": [(time.perf_counter() - begun) / len(batch)] * len(batch),
        }

    done = complete_rows(
        keys, asked, store.memo, load_scorer, read, lambda said: said, store.flush_every, store.run_id, progress
    )
    return done.rows.with_columns(pl.col("key").is_in(done.made["key"].implode()).alias("now"))
