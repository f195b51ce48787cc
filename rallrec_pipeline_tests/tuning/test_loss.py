"""The gradient of an optimizer step is that of the whole batch, however it is cut up, padded or packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.kernels.packed_ends import can_pack
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning import short_attention
from rallrec_pipeline.tuning.loss import accumulate_gradient
from rallrec_pipeline.tuning.packed_attention import packed_attention
from rallrec_pipeline.tuning.short_attention import Layout, layout_of
from rallrec_pipeline_tests.tuning.tiny import TRIE, gradients, losses_by_hand, tiny_engine, tiny_examples

EXAMPLES = tiny_examples(13)
WHOLE = 10_000


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    """Without dropout, which depends on how a batch is cut up."""
    engine = tiny_engine(TuningSettings(dropout=0.0))
    engine.model.train()
    return engine


def gradient(engine: TransformersEngine, budget: int, pack: bool) -> tuple[float, dict[str, torch.Tensor]]:
    engine.model.zero_grad()
    loss = accumulate_gradient(engine, EXAMPLES, TRIE, budget, pack).loss
    return loss, gradients(engine)


def plain_gradient(engine: TransformersEngine) -> tuple[float, dict[str, torch.Tensor]]:
    """The same by hand: one example at a time through the model as it is, with its whole head."""
    engine.model.zero_grad()
    losses, weights = list[torch.Tensor](), 0.0
    for example in EXAMPLES:
        _, own, weight = losses_by_hand(engine, example)
        losses, weights = losses + own, weights + weight
    loss = torch.stack(losses).sum() / weights
    loss.backward()
    return loss.item(), gradients(engine)


@pytest.mark.parametrize(
    ("budget", "pack", "longest"),
    [(WHOLE, False, 0), (60, False, 0), *((n, True, longest) for n in (WHOLE, 100, 20) for longest in (0, 99))],
)
def test_the_gradient_is_that_of_the_whole_batch(
    tiny: TransformersEngine, budget: int, pack: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed, by the kernel (`longest` 0) and by a few products."""
    monkeypatch.setattr(short_attention, "LONGEST", {torch.float32: longest})
    loss, wanted = plain_gradient(tiny)
    found_loss, found = gradient(tiny, budget, pack)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == wanted.keys() and len(found) == 12  # A and B of q and v, three layers; nothing of the base
    for name, grad in wanted.items():
        assert grad.abs().max() > 1e-4
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * float(grad.abs().max()))


@pytest.mark.parametrize("lengths", [(12, 3, 40, 2), (12, 1, 2, 2), (0, 7, 9), (5, 5)])
def test_a_few_products_are_attention_of_one_example_at_a_time(lengths: tuple[int, ...]) -> None:
    """Gradient included; also where the prefix is the longest, where there is none, and where there is one example."""
    made = torch.Generator().manual_seed(1)
    states = [torch.randn(1, heads, sum(lengths), 8, generator=made).requires_grad_() for heads in (6, 2, 2)]
    pushed = torch.randn(1, sum(lengths), 6, 8, generator=made)
    found = []
    for layout in (None, Layout.of(lengths)):
        mixed, _ = packed_attention(torch.nn.Module(), *states, None, lengths=lengths, layout=layout, scaling=0.3)
        found.append((mixed, *torch.autograd.grad(mixed, states, pushed)))
    for by_kernel, by_products in zip(*found, strict=True):
        torch.testing.assert_close(by_products, by_kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "dtype", "taken"),
    [
        ((18, 60, 65, 66), torch.bfloat16, True),
        ((18, 60, 65, 66), torch.float32, False),  # nothing is gained
        ((18, 303, 303), torch.bfloat16, False),  # long
        ((18, 302, 302), torch.bfloat16, True),
        ((20, 160, 15, 15, 15), torch.bfloat16, True),  # a long example is a band of its own
        ((150, 15, 15, 15, 15), torch.bfloat16, True),  # so is a long prefix
        (None, torch.bfloat16, False),  # not packed
    ],
)
def test_short_and_even_examples_go_through_a_few_products(
    lengths: tuple[int, ...] | None, dtype: torch.dtype, taken: bool
) -> None:
    assert (layout_of(lengths, dtype, torch.device("cpu")) is not None) is taken
    assert layout_of(lengths, dtype, torch.device("meta")) is None


@pytest.mark.parametrize("longest", [0, 99])
@pytest.mark.parametrize("pack", [False, True])
def test_an_adapter_computes_in_bfloat16_and_keeps_its_weights_in_float32(
    pack: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_attention, "LONGEST", {torch.bfloat16: longest})
    engine = tiny_engine(TuningSettings(dropout=0.0))
    _, wanted = gradient(engine, WHOLE, pack)
    weights = {n: p.detach().clone() for n, p in engine.model.named_parameters() if p.requires_grad}
    engine.restore()
    engine.model.to(torch.bfloat16)
    for name, parameter in engine.model.named_parameters():
        if name in weights:
            parameter.data = weights[name]
    engine.prepare()
    seen: set[torch.dtype] = set()
    for name, module in engine.model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda module, given, made: seen.update((given[0].dtype, made.dtype)))
    _, found = gradient(engine, WHOLE, pack)
    assert seen == {torch.bfloat16}
    for name, grad in found.items():
        assert grad.dtype == torch.float32
        assert torch.cosine_similarity(grad.flatten(), wanted[name].flatten(), dim=0) > 0.99
        assert grad.norm() == pytest.approx(float(wanted[name].norm()), rel=0.1)


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
