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
from rallrec_pipeline.reasoning.prompts import AnswerPosition


def read_answers(
    asked: Sequence[AnswerPosition],
    answers: Sequence[str],
    load_scorer: Callable[[], AnswerScorer],
    store: ScoreStore,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """A row for each of `asked`, in order: `key`, `probabilities` over the answers, `seconds`, `run_id`, `created_at`
    and `now`, whether it was read now. All of them are chat turns, or none is.
    """
    depends_on = (SCORING_VERSION, list(answers), store.model_fingerprint, store.adapter_version)
    keys = [stable_hash(*said, *depends_on) for said in asked]

    def read(scorer: AnswerScorer, batch: Mapping[str, AnswerPosition], part: Progress | None) -> dict[str, list[Any]]:
        begun = time.perf_counter()
        prompts = [position.prompt for position in batch.values()]
        said = [position.said for position in batch.values() if position.said is not None] or None
        found = scorer.score(prompts, answers, said is not None, part, *([] if said is None else [said]))
        return {
            "probabilities": found.tolist(),
            "seconds": [(time.perf_counter() - begun) / len(batch)] * len(batch),
        }

    done = complete_rows(
        keys,
        asked,
        store.memo,
        load_scorer,
        read,
        lambda position: (position.prompt, position.said or ""),
        store.flush_every,
        store.run_id,
        progress,
    )
    return done.rows.with_columns(pl.col("key").is_in(done.made["key"].implode()).alias("now"))
