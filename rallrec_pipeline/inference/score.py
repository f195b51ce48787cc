"""P(yes) of prompts: one prefill per prompt, batched and length-sorted by the engine."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.language_models.protocols import AnswerScorer, Progress
from rallrec_pipeline.prompts.render import answer_texts, is_liked
from rallrec_pipeline.settings import AnswerForm


def score_prompts(
    scorer: AnswerScorer,
    prompts: pl.DataFrame,
    form: AnswerForm,
    spec: DatasetSpec,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Predictions table: `probabilities` over the answers, `p_yes` the share of those that mean liking."""
    answers = answer_texts(form, spec)
    chat = form == "yes_no"
    probabilities = scorer.score(prompts["prompt"].to_list(), answers, chat, progress)
    return prompts.select("sample_id", "split", "label").with_columns(
        pl.Series("p_yes", liking_probability(probabilities, form, spec), dtype=pl.Float64),
        pl.Series("probabilities", probabilities.tolist(), dtype=pl.List(pl.Float32)),
    )


def liking_probability(probabilities: NDArray[np.float64], form: AnswerForm, spec: DatasetSpec) -> NDArray[np.float64]:
    """Sum over the answers that mean liking; (n, answers) -> (n,)."""
    return np.asarray(probabilities[:, np.array(is_liked(form, spec))].sum(axis=1))
