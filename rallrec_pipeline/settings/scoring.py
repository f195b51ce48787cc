"""Probabilities, their intervals, and the experts that they are held against."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rallrec_pipeline.settings.section import Section


class ScoringSettings(Section):
    """Reading probabilities off the model."""

    calibration: Literal["none", "platt"] = Field("none", description="Fitted on validation rows only.")
    flush_every: int = Field(256, gt=0, description="Finished rows are stored this often.")
    bootstrap: int = Field(
        5000, gt=0, description="Resamples of the intervals; no p is below 2 / this, times the comparisons of a table."
    )


class ExpertSettings(Section):
    """The strongest predictors without an LLM, which the LLM is compared with."""

    rows: int = Field(300_000, gt=0, description="Training rows that an expert is fitted on, at most.")
    trees: int = Field(5, gt=0, description="Fits of boosted trees, by seed, whose mean counts.")
    deep: bool = Field(True, description="The papers' baselines on ids too: DeepFM, xDeepFM, DCN, AutoInt.")
