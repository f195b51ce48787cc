"""The gradient of an optimizer step is that of the whole batch, however it is cut up, padded or packed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from rallrec_pipeline.language_models.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning import packed_attention
from rallrec_pipeline.tuning.examples import Example, Target
from rallrec_pipeline.tuning.loss import accumulate_gradient
from rallrec_pipeline.tuning.packed_attention import can_pack
from rallrec_pipeline_tests.tuning.tiny import PREFIX, TRIE, tiny_engine, tiny_examples

EXAMPLES = tiny_examples(13)
WHOLE = 10_000


@pytest.fixture(scope="module")
def tiny(model_path: Path) -> TransformersEngine:
    """Without dropout, which depends on how a batch is cut up."""
    engine = tiny_engine(model_path, TuningSettings(dropout=0.0))
    engine.model.train()
    return engine


def gradient(
    engine: TransformersEngine, budget: int, pack: bool, examples: Sequence[Example] = EXAMPLES
) -> tuple[float, dict[str, torch.Tensor]]:
    engine.model.zero_grad()
    loss = accumulate_gradient(engine, examples, TRIE, budget, pack).loss
    return loss, {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.grad is not None}


def plain_gradient(engine: TransformersEngine) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by hand: one example at a time through the model as it is, with its whole head."""
    engine.model.zero_grad()
    losses, weights = [], 0.0
    for example in EXAMPLES:
        logits = engine.model(input_ids=torch.tensor([example.tokens])).logits[0]
        for target in example.targets:
            children = list(TRIE.choices[target.choice].children)
            losses.append(-target.weight * torch.log_softmax(logits[target.position, children], 0)[target.child])
            weights += target.weight
    loss = torch.stack(losses).sum() / weights
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in engine.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("short", [True, False], ids=["products", "kernel"])
@pytest.mark.parametrize(("budget", "pack"), [(WHOLE, False), (60, False), (WHOLE, True), (100, True), (20, True)])
def test_the_gradient_is_that_of_the_whole_batch(
    tiny: TransformersEngine, budget: int, pack: bool, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not short:
        monkeypatch.setattr(packed_attention, "SHORT", {})
    loss, wanted = plain_gradient(tiny)
    found_loss, found = gradient(tiny, budget, pack)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == wanted.keys() and len(found) == 12  # A and B of q and v, three layers; nothing of the base
    for name, grad in wanted.items():
        assert grad.abs().max() > 1e-4
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()))


@pytest.mark.parametrize("width", [2, 40], ids=["prefix the longest", "example the longest"])
def test_a_prefix_may_be_longer_than_what_follows(tiny: TransformersEngine, width: int) -> None:
    examples = [Example((*PREFIX, *range(8, 8 + n)), (Target(11 + n, 0, 1, 1.0),)) for n in (1, width, 2)]
    wanted_loss, wanted = gradient(tiny, WHOLE, pack=False, examples=examples)
    loss, found = gradient(tiny, WHOLE, pack=True, examples=examples)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()))


@pytest.mark.parametrize("pack", [False, True])
def test_an_adapter_computes_in_bfloat16_and_keeps_its_weights_in_float32(model_path: Path, pack: bool) -> None:
    engine = tiny_engine(model_path, TuningSettings(dropout=0.0))
    _, wanted = gradient(engine, WHOLE, pack)
    weights = {n: p.clone() for n, p in engine.model.named_parameters() if p.requires_grad}
    engine.model.to(torch.bfloat16)
    for name, parameter in engine.model.named_parameters():
        if name in weights:
            parameter.data = weights[name]
    seen: set[torch.dtype] = set()
    for name, module in engine.model.named_modules():
        if "lora_A.default" in name:
            module.register_forward_hook(lambda module, given, made: seen.add(made.dtype))
    _, found = gradient(engine, WHOLE, pack)
    assert seen == {torch.bfloat16}
    for name, grad in found.items():
        assert grad.dtype == torch.float32
        assert torch.cosine_similarity(grad.flatten(), wanted[name].flatten(), dim=0) > 0.99


def test_a_packed_step_leaves_scoring_as_it_was(tiny: TransformersEngine) -> None:
    before = tiny.model.config._attn_implementation
    tiny.model.eval()
    ids = torch.tensor([EXAMPLES[0].tokens])
    with torch.inference_mode():
        first = tiny.backbone(input_ids=ids).last_hidden_state
    gradient(tiny, WHOLE, pack=True)
    with torch.inference_mode():
        assert torch.equal(tiny.backbone(input_ids=ids).last_hidden_state, first)
    assert tiny.model.config._attn_implementation == before
    tiny.model.train()


def test_a_prefix_is_computed_once_and_padding_is_counted(tiny: TransformersEngine) -> None:
    tokens = sum(len(e.tokens) for e in EXAMPLES)
    padded, packed = (accumulate_gradient(tiny, EXAMPLES, TRIE, WHOLE, pack) for pack in (False, True))
    assert padded.computed - padded.padding == tokens and padded.padding > 0
    assert packed.computed == tokens - 12 * (len(EXAMPLES) - 1) and packed.padding == 0


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (LlamaConfig(), True),
        (Qwen2Config(), True),
        (Qwen2Config(use_sliding_window=True, sliding_window=128, max_window_layers=0), False),
    ],
)
def test_only_plain_causal_attention_is_packed(config: Any, allowed: bool) -> None:
    class Backbone:
        pass

    backbone = Backbone()
    backbone.config = config  # type: ignore[attr-defined]
    assert can_pack(backbone) is allowed
