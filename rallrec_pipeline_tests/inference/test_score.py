"""Predictions of the real LLM: what they say, and that no finished row is computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.inference.methods import methods, tuning_asked
from rallrec_pipeline.inference.score import (
    ScoredPrompts,
    ScoreStore,
    liking_probability,
    score_keys,
    score_missing_prompts,
    score_prompts,
)
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import load_settings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

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


TITLES = ["Heat", "Big", "Fargo", "Jaws", "Psycho", "The Rock", "Toy Story", "A Close Shave", "Casablanca"]
MANY = pl.DataFrame(
    {
        "sample_id": list(range(9)),
        "split": ["test"] * 9,
        "label": [1, 0, 1] * 3,
        "prompt": [f"Ratings from 1 to 5:\n{title}:{i % 5 + 1}\nAlien:" for i, title in enumerate(TITLES)],
    }
)


def store(lake: Path, flush_every: int = 2) -> ScoreStore:
    return ScoreStore(Memo(lake, SCORES), "model", "adapter", "run", flush_every)


def scored(
    engine: TransformersEngine,
    prompts: pl.DataFrame,
    spec: DatasetSpec,
    kept: ScoreStore,
    progress: Progress | None = None,
) -> tuple[ScoredPrompts, int]:
    """The result, and how many rows the engine really scored."""
    before = engine.usage.rows
    result = score_missing_prompts(lambda: engine, prompts, "rating", spec, kept, progress)
    return result, engine.usage.rows - before


def no_engine() -> NoReturn:
    raise AssertionError("nothing is missing: no engine may be loaded")


def test_chunks_score_as_one_list_does(engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    chunked, rows = scored(engine, MANY, spec, store(tmp_path), lambda *state: seen.append(state))
    whole = score_prompts(engine, MANY, "rating", spec)
    assert rows == chunked.scored == 9 and chunked.table.schema == whole.schema
    assert chunked.table.drop("p_yes", "probabilities").equals(whole.drop("p_yes", "probabilities"))
    tolerance = 1e-4 if engine.model.dtype.itemsize == 4 else 2e-2
    np.testing.assert_allclose(chunked.table["p_yes"], whole["p_yes"], atol=tolerance)
    assert seen == sorted(seen) and seen[-1] == (9, 9) and len(set(seen)) >= 5


def test_what_begins_alike_comes_into_one_chunk(engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path) -> None:
    chunks: list[list[str]] = []

    class Watched:
        def score(self, prompts: Sequence[str], *asked: Any) -> NDArray[np.float64]:
            chunks.append(list(prompts))
            return engine.score(prompts, *asked)

    users = [f"Ratings of user {n % 3} from 1 to 5:\n{'Heat:4 ' * (n % 4)}Alien:" for n in range(9)]
    asked = MANY.with_columns(pl.Series("prompt", users))
    score_missing_prompts(Watched, asked, "rating", spec, store(tmp_path, flush_every=3))
    assert [{prompt[:17] for prompt in chunk} for chunk in chunks] == [{f"Ratings of user {n}"} for n in range(3)]


def test_a_broken_off_scoring_goes_on_to_exactly_the_same_table(
    engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scored(engine, MANY, spec, store(tmp_path / "broken"), stop)
    resumed, rows = scored(engine, MANY, spec, store(tmp_path / "broken"))
    assert rows == resumed.scored == 5  # two chunks of two were finished
    undisturbed, _ = scored(engine, MANY, spec, store(tmp_path / "whole"))
    assert undisturbed.scored == 9 and resumed.table.equals(undisturbed.table)
    again = score_missing_prompts(no_engine, MANY, "rating", spec, store(tmp_path / "broken"))
    assert again.scored == 0 and again.table.equals(undisturbed.table)
    assert 0 < resumed.seconds_now < resumed.seconds == again.seconds and again.seconds_now == 0


def test_only_changed_prompts_are_scored(engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path) -> None:
    first, _ = scored(engine, MANY, spec, store(tmp_path))
    edited = pl.when(pl.col("sample_id") == 3).then(pl.lit("Ratings from 1 to 5:\nAlien:")).otherwise("prompt")
    changed, rows = scored(engine, MANY.with_columns(edited.alias("prompt")).reverse(), spec, store(tmp_path))
    assert rows == changed.scored == 1
    assert changed.table["sample_id"].to_list() == MANY["sample_id"].to_list()[::-1]
    same = pl.col("sample_id") != 3
    assert changed.table.filter(same).sort("sample_id").equals(first.table.filter(same))


def test_equal_prompts_are_scored_once(engine: TransformersEngine, spec: DatasetSpec, tmp_path: Path) -> None:
    twice = pl.concat([PROMPTS, PROMPTS.with_columns(pl.col("sample_id") + 2)])
    result, rows = scored(engine, twice, spec, store(tmp_path))
    assert rows == result.scored == 2
    assert result.table["p_yes"].to_list() == result.table["p_yes"].to_list()[:2] * 2


def test_no_rows_are_no_work(spec: DatasetSpec, tmp_path: Path) -> None:
    nothing = score_missing_prompts(no_engine, PROMPTS.clear(), "rating", spec, store(tmp_path))
    assert nothing.table.is_empty() and nothing.scored == nothing.seconds == 0


def test_a_row_depends_on_prompt_answers_model_and_adapter(tmp_path: Path) -> None:
    def key(prompt: str, answers: Sequence[str], kept: ScoreStore) -> str:
        return score_keys([prompt], "rating", answers, kept)[0]

    one = store(tmp_path)
    others = [
        key("other", "12", one),
        key("prompt", "123", one),
        key("prompt", "12", replace(one, model_fingerprint="other")),
        key("prompt", "12", replace(one, adapter_version="")),
        score_keys(["prompt"], "yes_no", "12", one)[0],
    ]
    assert len({key("prompt", "12", one), *others}) == 6
    assert key("prompt", "12", replace(one, run_id="later", flush_every=7)) == key("prompt", "12", one)


@pytest.mark.parametrize("profile", ["demo", "full", "paper"])
def test_every_profile_has_both_tuned_methods_and_one_without_tuning_that_is_asked_alike(profile: str) -> None:
    settings = load_settings(profile)
    named = {method.name: method for method in methods(settings)}
    assert named["zero_shot"].asked == named["rallrec"].asked and named["zero_shot"].adapter is None
    assert named["rallrec"].prompt_form == "reranked" and named["recent"].prompt_form == "recent"
    assert {m.answer_form for m in named.values()} == {settings.prompts.answer_form} and len(named) == 3
    assert [asked.prompt_form for asked in tuning_asked("recent", settings)] == ["recent"]
    assert tuple(asked.prompt_form for asked in tuning_asked("rallrec", settings)) == settings.prompts.augmentation
