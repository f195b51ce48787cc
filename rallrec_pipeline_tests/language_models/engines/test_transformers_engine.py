"""The engine keeps the contract on a tiny and on the real LLM: batching, padding and prefix sharing change nothing."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.cache_utils import Cache

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.chunks import in_chunks
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.kernels import forward
from rallrec_pipeline.language_models.kernels.batching import HELD
from rallrec_pipeline.language_models.kernels.packing import PackedLinear
from rallrec_pipeline.language_models.kernels.sections import shared_prefix
from rallrec_pipeline.language_models.models import fetch_model
from rallrec_pipeline.language_models.protocols import Sampling, Usage
from rallrec_pipeline.settings import ModelSettings, TuningSettings
from rallrec_pipeline.tuning.lora import add_adapter
from rallrec_pipeline_tests.language_models.adapters import random_adapter
from rallrec_pipeline_tests.language_models.engines.contract import (
    EncoderContract,
    EngineContract,
    GeneratorContract,
    Holds,
    Load,
    Plain,
    ScorerContract,
)
from rallrec_pipeline_tests.language_models.small_llama import LIVELY, write_llama

TEXTS = ["Heat", "Toy Story, a movie (year: 1995; genres: Animation, Comedy).", "A thriller in a snowed-in hotel." * 4]
PROMPTS = [
    "Describe the movie Heat in ten words.",
    "Describe the movie Toy Story (1995), an animation, in ten words.",
    "Describe the movie Fargo in ten words.",
]
TOLERANCE = 2e-4


def has_its_model(engine: TransformersEngine) -> Callable[[], bool]:
    model = weakref.ref(engine.model)
    return lambda: model() is not None


class TestTheTinyLlm(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_llama(tmp_path_factory.mktemp("llm") / "model", LIVELY | {"max_position_embeddings": 2048})

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls, folder: Path) -> Load:
        return partial(TransformersEngine.load, folder, ModelSettings(dtype="float32", tokens_per_batch=256))

    @pytest.fixture
    def holds(self) -> Holds:
        return has_its_model


class TestTheSmallLlm(GeneratorContract, ScorerContract, EncoderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, model_path: Path) -> Path:
        return model_path

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, engine: TransformersEngine) -> TransformersEngine:
        return engine


def test_bfloat16_only_rounds(engine: TransformersEngine, model_path: Path) -> None:
    rounded = TransformersEngine.load(model_path, ModelSettings(dtype="bfloat16"))
    prompts = [f"Ratings from 1 to 5:\n{text}:4\nAlien:" for text in TEXTS]
    exact, found = (e.score(prompts, list("12345"), chat=False) for e in (engine, rounded))
    plain = Plain(model_path)
    plain.model.to(torch.bfloat16)
    rough = np.stack([plain.score(prompt, list("12345"), chat=False) for prompt in prompts])
    # Processors round differently: 0.02 to 0.042 were seen. So the bound is what plain transformers loses there.
    np.testing.assert_allclose(found, exact, atol=2 * np.abs(rough - exact).max() + 0.01)
    for a, b in zip(engine.encode(TEXTS), rounded.encode(TEXTS), strict=True):
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
    likely, same = Sampling(4, 1e-3, 1.0, seed=1), 0
    for exact_text, text in zip(engine.generate(PROMPTS, likely), rounded.generate(PROMPTS, likely), strict=True):
        same += text == exact_text
    assert same >= len(PROMPTS) - 1  # a near tie may fall the other way once


def used(engine: TransformersEngine, before: Usage) -> tuple[int, int, int]:
    after = engine.usage
    return (
        after.rows - before.rows,
        after.prompt_tokens - before.prompt_tokens,
        after.new_tokens - before.new_tokens,
    )


def test_a_shared_prefix_is_counted_once_per_batch_of_texts(engine: TransformersEngine) -> None:
    before = replace(engine.usage)
    engine.generate(PROMPTS, Sampling(2, 0.8, 0.9, seed=3))
    tokens = [engine.prompt_tokens(prompt, chat=True) for prompt in PROMPTS]
    shared = shared_prefix(tokens)
    assert shared >= 8 and used(engine, before)[1] == sum(map(len, tokens)) - 2 * shared


def test_a_shared_prefix_is_counted_once_per_list(engine: TransformersEngine) -> None:
    prompts = [f"Ratings from 1 to 10 of movies that a user has seen:\n{title}:" for title in ("Heat", "Big", "Alien")]
    tokens = [engine.prompt_tokens(prompt, chat=False) for prompt in prompts]
    shared, before = shared_prefix(tokens), replace(engine.usage)
    engine.score(prompts, list("12345"), chat=False)
    assert shared >= 8 and used(engine, before) == (3, sum(map(len, tokens)) - 2 * shared, 0)
    before, seen = replace(engine.usage), []
    engine.score(prompts[:1], [str(n) for n in range(1, 11)], False, lambda *state: seen.append(state))
    passes = engine.trie([str(n) for n in range(1, 11)]).chains
    assert used(engine, before) == (1, sum(len(tokens[0]) + len(chain) for chain in passes), 0)
    assert seen[-1] == (1, 1)


@pytest.mark.parametrize("answers", [["Yes", "No"], [str(n) for n in range(1, 11)]])
def test_the_profile_of_a_user_is_computed_once(engine: TransformersEngine, answers: list[str]) -> None:
    titles = ("Fargo", "Toy Story", "The Usual Suspects", "Ran")
    users = [f"User profile: gender: M; age: 24; occupation: {job}." for job in ("writer", "lawyer")]
    asked = [f"{user}\nWill this user like {title}?" for user in users for title in titles] + ["Is Alien good?"]
    engine = TransformersEngine(engine.model, engine.tokenizer, tokens_per_batch=128)
    tokens, before = [engine.prompt_tokens(prompt, chat=True) for prompt in asked], replace(engine.usage)
    together = engine.score(asked, answers, chat=True)
    common, profile = shared_prefix(tokens), min(shared_prefix(tokens[:4]), shared_prefix(tokens[4:8]))
    assert profile > common + 8
    a_pass = sum(map(len, tokens)) - 8 * common - 2 * 3 * (profile - common)
    chains = engine.trie(answers).chains
    assert used(engine, before) == (9, sum(a_pass + 9 * len(chain) for chain in chains), 0)
    alone = np.concatenate([engine.score([prompt], answers, chat=True) for prompt in asked])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)


def test_an_adapter_is_merged_into_float32_weights_only(model_path: Path, tmp_path: Path) -> None:
    """Merged into bfloat16 weights it would be rounded with them."""
    adapter, prompts = tmp_path / "adapter", [f"Ratings from 1 to 5:\n{text}:4\nAlien:" for text in TEXTS]
    exact = random_adapter(model_path, adapter).score(prompts, list("12345"), chat=False)
    merged = TransformersEngine.load(model_path, ModelSettings(dtype="float32"), adapter)
    assert not hasattr(merged.model, "peft_config")
    np.testing.assert_allclose(merged.score(prompts, list("12345"), chat=False), exact, atol=2e-4)
    beside = TransformersEngine.load(model_path, ModelSettings(dtype="bfloat16"), adapter)
    assert hasattr(beside.model, "peft_config")
    np.testing.assert_allclose(beside.score(prompts, list("12345"), chat=False), exact, atol=0.02)


def test_keys_of_a_long_shared_prefix_stay_within_bounds(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ModelSettings(dtype="float32", tokens_per_batch=256)
    engine, made = TransformersEngine.load(model_path, settings), []
    expand = forward.expand_prefix

    def watched(prefix: Cache, batch: int, capacity: int, rows: Sequence[int] | None) -> Cache:
        made.append((batch, capacity))
        return expand(prefix, batch, capacity, rows)

    monkeypatch.setattr(forward, "expand_prefix", watched)
    monkeypatch.setattr(forward, "pays", lambda section, lengths: False)  # as of a decoder that cannot pack
    prompts = ["Ratings from 1 to 5:\n" + "Heat:4\n" * 50 + f"{title}:" for title in ("Alien", "Big", "Ran", "Fargo")]
    together = engine.score(prompts, list("12345"), chat=False)
    assert sum(batch for batch, _ in made) == len(prompts)
    assert max(capacity for _, capacity in made) > 200
    assert all(batch == 1 or batch * capacity <= HELD * 256 for batch, capacity in made)
    alone = np.concatenate([engine.score([prompt], list("12345"), chat=False) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=2e-4)


def test_no_pass_and_no_cache_exceeds_the_budget(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine.load(model_path, ModelSettings(dtype="float32", tokens_per_batch=256))
    alive: weakref.WeakSet[Cache] = weakref.WeakSet()
    most, forward_pass, expand = {"pass": 0, "caches": 0}, type(engine.backbone).forward, forward.expand_prefix

    def counted(backbone: Any, **given: Any) -> Any:
        most["pass"] = max(most["pass"], given["input_ids"].numel())
        return forward_pass(backbone, **given)

    def kept(*given: Any) -> Cache:
        made = expand(*given)
        alive.add(made)
        most["caches"] = max(most["caches"], len(alive))
        return made

    monkeypatch.setattr(type(engine.backbone), "forward", counted)
    monkeypatch.setattr(forward, "expand_prefix", kept)
    jobs = ("artist", "doctor", "lawyer", "writer", "student", "teacher", "farmer", "nurse", "singer")
    profiles = ["User profile: " + f"occupation {job}; " * n for n, job in enumerate(jobs, 8)]
    asked = [f"{profile}\nWill this user like {title}?" for profile in profiles for title in ("Ran", "Fargo", "Heat")]
    before = replace(engine.usage)
    engine.score(asked, ["Yes", "No"], chat=True)
    tokens = [engine.prompt_tokens(prompt, chat=True) for prompt in asked]
    assert used(engine, before)[1] < 0.7 * sum(len(t) - shared_prefix(tokens) for t in tokens), "profiles were shared"
    assert most["pass"] <= 256, "no pass exceeds the budget"
    assert most["caches"] <= engine.passes.count, "no batch keeps its keys beyond its pass"


def test_passes_and_batches_of_texts_side_by_side_give_the_same(model_path: Path) -> None:
    asked, sampling = [f"{prompt} {n}" for prompt in PROMPTS for n in range(4)], Sampling(6, 0.8, 0.9, seed=3)
    settings, found = ModelSettings(dtype="float32", tokens_per_batch=64), []
    before = torch.get_num_threads()
    for threads in (1, 4):
        torch.set_num_threads(threads)
        try:
            engine = TransformersEngine.load(model_path, settings)
            assert (engine.passes.count, engine.writes_at_once) == (threads, min(2, threads))
            write = partial(_generated, engine, sampling)
            texts = sorted(text for chunk in in_chunks(write, asked, 4, engine.writes_at_once) for text in chunk)
            found.append((texts, engine.score(asked, list("12345"), chat=False), engine.encode(asked), engine.usage))
        finally:
            torch.set_num_threads(before)
    (texts, scores, vectors, usage), (texts_of_4, scores_of_4, vectors_of_4, usage_of_4) = found
    assert texts == texts_of_4 and usage == usage_of_4
    np.testing.assert_allclose(scores_of_4, scores, atol=TOLERANCE)
    np.testing.assert_allclose(vectors_of_4, vectors, atol=1e-4)


def _generated(engine: TransformersEngine, sampling: Sampling, part: Sequence[str], _: object) -> list[str]:
    return engine.generate(part, sampling)


def test_an_engine_that_has_worked_can_be_tuned(model_path: Path, tmp_path: Path) -> None:
    engine = TransformersEngine.load(model_path, ModelSettings(dtype="float32"))
    engine.generate(PROMPTS[:1], Sampling(2, 0.8, 0.9, seed=3))
    before = engine.score(PROMPTS, list("12345"), chat=False)
    engine.prepare(head=True)
    add_adapter(engine, TuningSettings(), seed=1)
    engine.model.eval()
    np.testing.assert_allclose(engine.score(PROMPTS, list("12345"), chat=False), before, atol=TOLERANCE)
    engine.restore()
    engine.restore()
    assert not any(type(module) is PackedLinear for module in engine.model.modules())


def test_a_missing_or_broken_model_folder_is_one_line(tmp_path: Path, model_path: Path) -> None:
    with pytest.raises(ModelError, match="no model in"):
        TransformersEngine.load(tmp_path / "nowhere", ModelSettings())
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_path / name, broken / name)
    with pytest.raises(ModelError) as caught:
        TransformersEngine.load(broken, ModelSettings())
    assert "\n" not in str(caught.value) and str(broken) in str(caught.value)


def test_a_local_folder_replaces_the_wheel(tmp_path: Path, model_path: Path) -> None:
    settings = ModelSettings(source=str(model_path), name="mine")
    folder = fetch_model(settings, tmp_path)
    assert folder == tmp_path / "models" / "mine"
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    with pytest.raises(ModelError, match="not a model folder"):
        fetch_model(ModelSettings(source=str(tmp_path), name="other"), tmp_path)
    assert not (tmp_path / "models" / "other").exists()
