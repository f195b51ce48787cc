"""8-bit base weights through bitsandbytes on the real LLM: near the float one, tunable, saved and loaded unmerged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import ModelSettings, TuningSettings
from rallrec_pipeline.tuning.examples import make_example
from rallrec_pipeline.tuning.lora import add_adapter, save_adapter
from rallrec_pipeline.tuning.train import tune

pytest.importorskip("bitsandbytes")

SCALE = list("12345")
EIGHT_BIT = ModelSettings(dtype="float32", load_in_8bit=True)
HEAD = "Movie ratings of one user from 1 to 5, average in brackets.\n"
PROMPTS = [
    f"{HEAD}Heat (3.9):{first}\nBig (3.1):{second}\n{title}:"
    for first, second in ((5, 1), (1, 5), (3, 4))
    for title in ("Alien (4.0)", "Gigli (1.9)")
]
MEASURED = 0.05  # largest difference of a probability of liking on these prompts; see docs/experiments.md


def p_like(engine: TransformersEngine) -> np.ndarray:
    return engine.score(PROMPTS, SCALE, chat=False)[:, 3:].sum(1)


def int8_weights(engine: TransformersEngine) -> dict[str, torch.Tensor]:
    return {n: p for n, p in engine.model.named_parameters() if p.dtype == torch.int8}


def test_8_bit_weights_are_tuned_saved_and_loaded(model_path: Path, tmp_path: Path) -> None:
    plain = TransformersEngine.load(model_path, ModelSettings(dtype="float32"))
    wanted = p_like(plain)
    plain.close()
    engine = TransformersEngine.load(model_path, EIGHT_BIT)
    assert len(int8_weights(engine)) == 7 * 30  # every matrix of every layer
    before = p_like(engine)
    assert 0 < np.abs(before - wanted).max() < MEASURED

    settings = TuningSettings(epochs=3, batch_size=4, learning_rate=5e-3, tokens_per_batch=256)
    add_adapter(engine, settings, seed=1)
    trie = engine.trie(SCALE)
    prompts = [f"{HEAD}{title} (3.5):4\nAlien (4.0):" for title in ("Heat", "Big", "Fargo", "Jaws")]
    examples = [make_example(engine, trie, SCALE, prompt, "1", [], False, 0.0) for prompt in prompts]
    base = {name: weight.clone() for name, weight in int8_weights(engine).items()}
    result = tune(engine, examples, trie, lambda: 0.5, settings, seed=1)
    assert result.epochs[-1].loss < 0.8 * result.epochs[0].loss
    trained = {n: p.dtype for n, p in engine.model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 30 and set(trained.values()) == {torch.float32}
    assert all(torch.equal(weight, base[name]) for name, weight in int8_weights(engine).items())

    folder = tmp_path / "adapter"
    save_adapter(engine, folder, {"key": "k"})
    tuned = p_like(engine)
    engine.close()
    loaded = TransformersEngine.load(model_path, EIGHT_BIT, folder)
    assert isinstance(loaded.model, PeftModel) and len(int8_weights(loaded)) == 7 * 30  # not merged
    np.testing.assert_allclose(p_like(loaded), tuned, atol=1e-4)
    assert np.abs(tuned - before).max() > 0.01  # the adapter does something
