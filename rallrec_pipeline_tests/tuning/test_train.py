"""LoRA tuning on the real LLM: what is supervised, that it learns, and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.lake.sealed import read_sealed
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import ModelSettings, TuningSettings
from rallrec_pipeline.tuning.examples import make_example
from rallrec_pipeline.tuning.lora import adapter_version, add_adapter, save_adapter
from rallrec_pipeline.tuning.train import TuningResult, tune

SCALE = list("12345")
PROMPT = "Ratings:\nHeat:4\nBig (3.1):2\nAlien:"
OFFSETS = [PROMPT.index("4"), PROMPT.index(":2") + 1]


@pytest.fixture
def fresh(model_path: Path) -> TransformersEngine:
    """An engine of its own, since tuning changes it."""
    return TransformersEngine.load(model_path, ModelSettings(dtype="float32"))


def test_the_answer_and_the_history_answers_are_supervised(engine: TransformersEngine) -> None:
    trie = engine.trie(SCALE)
    example = make_example(engine, trie, SCALE, PROMPT, "5", OFFSETS, chat=False, history_weight=0.25)
    answers = [trie.choices[t.choice].children[t.child] for t in example.targets]
    assert [engine.tokenizer.decode([a]) for a in answers] == ["4", "2", "5"]
    assert [t.weight for t in example.targets] == [0.25, 0.25, 1.0]
    for target, answer in zip(example.targets[:-1], answers[:-1], strict=True):
        assert example.tokens[target.position + 1] == answer
    assert example.targets[-1].position == len(example.tokens) - 1


def test_an_offset_that_is_no_token_start_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(ModelError, match="merges a rating"):
        make_example(engine, engine.trie(SCALE), SCALE, PROMPT, "5", [2], chat=False, history_weight=1.0)


def test_two_token_answers_are_supervised_at_both_nodes(engine: TransformersEngine) -> None:
    scale = [str(n) for n in range(1, 11)]
    example = make_example(engine, engine.trie(scale), scale, "Dune:10\nEmma:", "10", [5], False, 1.0)
    assert [t.choice for t in example.targets] == [0, 1, 0, 1]
    assert example.targets[3].position == example.targets[2].position + 1 == len(example.tokens) - 1


def _tune(engine: TransformersEngine, epochs: int, aucs: list[float]) -> TuningResult:
    """Teach that `Alien` is rated 1, against the model's liking."""
    trie = engine.trie(SCALE)
    prompts = [f"Ratings:\n{title}:4\nAlien:" for title in ("Heat", "Big", "Fargo", "Jaws")]
    examples = [make_example(engine, trie, SCALE, p, "1", [], False, 0.0) for p in prompts]
    settings = TuningSettings(epochs=epochs, batch_size=2, learning_rate=5e-3)
    values = iter(aucs)
    add_adapter(engine, settings, seed=1)
    return tune(engine, examples, trie, lambda: next(values), settings, seed=1)


def test_tuning_learns_and_leaves_the_base_weights_alone(fresh: TransformersEngine) -> None:
    prompt = "Ratings:\nPsycho:4\nAlien:"
    before = fresh.score([prompt], SCALE, chat=False)[0, 0]
    fresh.restore()
    base = {n: p.clone() for n, p in fresh.model.named_parameters() if "layers.0" in n}
    result = _tune(fresh, 3, [0.5, 0.6, 0.7])
    after = fresh.score([prompt], SCALE, chat=False)[0, 0]
    assert after > max(0.5, 2 * before)
    assert result.epochs[-1].loss < result.epochs[0].loss and result.best_epoch == 3
    fresh.restore()
    now = dict(fresh.model.named_parameters())
    assert len(base) > 7
    for name, weight in base.items():
        names = (name, name.replace("_proj.", "_proj.base_layer."))
        wrapped = next(value for key, value in now.items() if key.endswith(names))
        assert torch.equal(weight, wrapped)


def test_the_best_epoch_by_validation_auc_is_kept(model_path: Path) -> None:
    """Two runs of the same seed: one epoch, and three of which the first is the best, end alike."""
    settings = ModelSettings(dtype="float32")
    kept = TransformersEngine.load(model_path, settings)
    result = _tune(kept, 2, [0.9, 0.4])
    assert result.best_epoch == 1
    worse = TransformersEngine.load(model_path, settings)
    _tune(worse, 2, [0.4, 0.9])
    prompt = ["Ratings:\nPsycho:4\nAlien:"]
    early, late = (e.score(prompt, SCALE, chat=False)[0, 0] for e in (kept, worse))
    assert early < late


def test_a_saved_adapter_scores_as_the_tuned_model(fresh: TransformersEngine, model_path: Path, tmp_path: Path) -> None:
    _tune(fresh, 1, [0.5])
    folder = tmp_path / "adapter"
    save_adapter(fresh, folder, {"key": "k"})
    names = {file.name for file in folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "provenance.json"}
    assert read_sealed(folder / "provenance.json") == {"key": "k", "version": adapter_version(folder)}
    assert str(model_path) not in (folder / "adapter_config.json").read_text()
    assert read_json(folder / "adapter_config.json")["target_modules"] == ["q_proj", "v_proj"]  # a set has no order
    loaded = TransformersEngine.load(model_path, ModelSettings(dtype="float32"), folder)
    prompts = ["Ratings:\nPsycho:4\nAlien:", "Ratings:\nBig:2\nHeat:"]
    scores = [e.score(prompts, SCALE, chat=False) for e in (fresh, loaded)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)


def test_an_adapter_is_its_weights_and_configuration(fresh: TransformersEngine, tmp_path: Path) -> None:
    add_adapter(fresh, TuningSettings(), seed=1)
    one, two = tmp_path / "one", tmp_path / "two"
    save_adapter(fresh, one, {"run_id": "first", "created_at": "today"})
    save_adapter(fresh, two, {"run_id": "second", "created_at": "tomorrow"})
    assert adapter_version(one) == adapter_version(two)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        content = (two / name).read_bytes()
        (two / name).write_bytes(content + b" ")
        assert adapter_version(one) != adapter_version(two)
        (two / name).write_bytes(content)


def test_modules_that_the_model_lacks_are_one_line(fresh: TransformersEngine) -> None:
    with pytest.raises(ModelError, match=r"tuning\.modules"):
        add_adapter(fresh, TuningSettings(modules=("nothing_like_it",)), seed=1)
