"""Predictions of the real LLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.inference.methods import methods, tuning_forms
from rallrec_pipeline.inference.score import liking_probability, score_prompts
from rallrec_pipeline.settings import AnswerForm, load_settings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine

PROMPTS = pl.DataFrame(
    {
        "sample_id": [1, 2],
        "split": ["test", "valid"],
        "label": [1, 0],
        "prompt": ["Ratings from 1 to 5:\nHeat:5\nBig:5\nAlien:", "Ratings from 1 to 5:\nHeat:1\nBig:1\nAlien:"],
    }
)


def test_liking_is_the_share_above_the_threshold(spec: DatasetSpec) -> None:
    probabilities = np.array([[0.1, 0.2, 0.3, 0.3, 0.1]])
    assert liking_probability(probabilities, "rating", spec) == pytest.approx([0.4])
    assert liking_probability(np.array([[0.7, 0.3]]), "yes_no", spec) == pytest.approx([0.7])


def test_a_user_who_likes_everything_is_scored_higher(engine: TransformersEngine, spec: DatasetSpec) -> None:
    scored = score_prompts(engine, PROMPTS, "rating", spec)
    assert scored["p_yes"][0] > scored["p_yes"][1]
    assert scored["sample_id"].to_list() == [1, 2] and scored["split"].to_list() == ["test", "valid"]
    assert np.array(scored["probabilities"].to_list()).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


@pytest.mark.parametrize("profile", ["demo", "full", "paper"])
def test_every_profile_has_both_answer_forms_and_both_tuned_methods(profile: str) -> None:
    settings = load_settings(profile)
    named = {method.name: method for method in methods(settings)}
    forms: set[AnswerForm] = {m.answer_form for m in named.values() if m.adapter is None}
    assert forms == {"yes_no", "rating"}
    assert named["rallrec"].prompt_form == "reranked" and named["recent"].prompt_form == "recent"
    assert {m.answer_form for m in named.values() if m.adapter} == {settings.prompts.answer_form}
    assert tuning_forms("recent", settings) == ("recent",)
    assert tuning_forms("rallrec", settings) == settings.prompts.augmentation
