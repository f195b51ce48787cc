"""Packed layers give what the layers gave that they stand for, gradients included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from rallrec_pipeline.language_models.kernels import packing
from rallrec_pipeline.language_models.kernels.packing import (
    PackedGatedMLP,
    PackedLinear,
    pack_head,
    pack_weights,
    packed_if_possible,
    unpack_weights,
)
from rallrec_pipeline_tests.language_models.small_llama import NARROW, random_llama

IDS = torch.arange(40).view(2, 20) * 7 + 5
FAR = {torch.float32: 1e-4, torch.bfloat16: 0.03}  # relative


def small(activation: str = "silu", **options: object) -> Any:
    sizes = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 80, "hidden_act": activation}
    return frozen(random_llama(NARROW | sizes | options))


def frozen(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def can_pack(dtype: torch.dtype) -> bool:
    """Every processor can float32, not every one bfloat16."""
    layer = torch.nn.Linear(8, 8, dtype=dtype).requires_grad_(False)
    return dtype == torch.float32 or type(packed_if_possible(layer)) is PackedLinear


def kinds(model: torch.nn.Module) -> dict[type, int]:
    found: dict[type, int] = {}
    for module in model.modules():
        found[type(module)] = found.get(type(module), 0) + 1
    return found


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).detach().double().norm() / expected.detach().double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_layer_multiplies_and_passes_gradients_back(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(1)
    layer = torch.nn.Linear(48, 20, bias=bias, dtype=dtype).requires_grad_(False)
    inputs, pushed = torch.randn(3, 7, 48, dtype=dtype, requires_grad=True), torch.randn(3, 7, 20, dtype=dtype)
    quick = packed_if_possible(layer)
    assert can_pack(dtype) is (type(quick) is PackedLinear)
    results = []
    for module in (layer, quick):
        outputs = module(inputs)
        with torch.inference_mode():
            assert apart(module(inputs), outputs) < 1e-6
        results.append((outputs, *torch.autograd.grad(outputs, inputs, pushed)))
    for expected, found in zip(*results, strict=True):
        assert found.dtype == dtype and found.shape == expected.shape and apart(found, expected) < FAR[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_real_model_reads_the_same(model_path: Path, dtype: torch.dtype) -> None:
    model = frozen(AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype))
    with torch.inference_mode():
        expected = model(IDS).logits
        pack_weights(model)
        pack_head(model)
        found = model(IDS).logits
    assert apart(found, expected) < FAR[dtype]
    if can_pack(dtype):
        assert kinds(model)[PackedGatedMLP] == 30 and kinds(model)[PackedLinear] == 30 * 7 + 1
    embeddings = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state.float().square().mean().backward()
    assert embeddings.grad is not None and embeddings.grad.isfinite().all() and embeddings.grad.abs().sum() > 0


def test_unpacked_a_model_is_as_it_was() -> None:
    model = small(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with torch.inference_mode():
        expected = model(IDS).logits
        pack_weights(model)
        pack_head(model)
        assert apart(model(IDS).logits, expected) < 1e-5
    assert kinds(model)[PackedGatedMLP] == 2 and kinds(model)[PackedLinear] == 15
    unpack_weights(model)
    now = dict(model.named_parameters())
    assert now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in before)
    assert PackedLinear not in kinds(model) and PackedGatedMLP not in kinds(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_another_activation_stays_outside_the_products() -> None:
    model = small("gelu")
    with torch.inference_mode():
        expected = model(IDS).logits
        pack_weights(model)
        assert PackedGatedMLP not in kinds(model) and apart(model(IDS).logits, expected) < 1e-5


class Scaled(torch.nn.Module):
    """A feed-forward part with the names of Llama's that does something else."""

    def __init__(self, plain: Any, factor: float = 1.0, bound: float = 1e9) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = plain.gate_proj, plain.up_proj, plain.down_proj
        self.act_fn, self.factor, self.bound = plain.act_fn, factor, bound

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        gate = self.gate_proj(inputs) * self.factor
        return self.down_proj(self.act_fn(gate.clamp(max=self.bound)) * self.up_proj(inputs))


@pytest.mark.parametrize(("changes", "fused"), [({}, 2), ({"factor": 0.5}, 0), ({"bound": 2.0}, 0)])
def test_a_part_that_only_looks_like_llamas_stays(changes: dict[str, float], fused: int) -> None:
    model = small()
    for layer in model.model.layers:
        layer.mlp = Scaled(layer.mlp, **changes)
    with torch.inference_mode():
        expected = model(IDS).logits
        pack_weights(model)
        assert apart(model(IDS).logits, expected) < 1e-5
    assert kinds(model).get(PackedGatedMLP, 0) == fused and kinds(model)[PackedLinear] == 14


def test_what_is_trained_and_what_is_read_otherwise_stays() -> None:
    model = small()
    model.model.layers[0].mlp.up_proj.requires_grad_(True)
    weight = model.model.layers[1].self_attn.q_proj.weight
    pack_weights(model)
    assert kinds(model)[PackedLinear] == 13 and kinds(model)[PackedGatedMLP] == 1
    assert torch.equal(model.model.layers[1].self_attn.q_proj.weight, weight)


def test_the_weights_of_a_packed_head_can_be_read() -> None:
    model = small(tie_word_embeddings=True)
    pack_head(model)
    head = model.get_output_embeddings()
    assert type(head) is PackedLinear and head.weight is model.get_input_embeddings().weight


def test_adapters_stay_as_they_are() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(small(), LoraConfig(r=2, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    pack_weights(model)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == trained
    assert kinds(model)[PackedLinear] == 14 and PackedGatedMLP not in kinds(model)
    model(IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_an_adapted_head_is_spared() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(small(), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    pack_weights(model)
    pack_head(model)
    assert kinds(model)[PackedLinear] == 14 and model.get_output_embeddings().weight.shape == (300, 32)


@pytest.mark.parametrize("fault", [RuntimeError, NotImplementedError, AttributeError])
def test_an_unfit_processor_leaves_the_model_alone(fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(weight: torch.Tensor) -> torch.Tensor:
        raise fault("bf16 path needs the cpu support")

    monkeypatch.setattr(packing, "_packed", unfit)
    model, expected = small(), kinds(small())
    pack_weights(model)
    pack_head(model)
    assert kinds(model) == expected


def test_layers_of_other_kinds_are_left_alone() -> None:
    model = frozen(GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)))
    expected = kinds(model)
    pack_weights(model)
    assert kinds(model) == expected
    double = torch.nn.Linear(4, 4, dtype=torch.float64).requires_grad_(False)
    assert packed_if_possible(double) is double
