"""Dropout with cheap masks: the same expectation, gradient and state of random numbers as torch's."""

from __future__ import annotations

import pytest
import torch

from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.dropout import FastDropout
from rallrec_pipeline_tests.tuning.tiny import tiny_engine


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_the_share_that_is_dropped_and_the_expectation_are_right(p: float) -> None:
    torch.manual_seed(1)
    result = FastDropout(p)(torch.ones(1001, 501))
    n = result.numel()
    assert abs((result == 0).double().mean() - p) < 5 * (p * (1 - p) / n) ** 0.5 + 2**-17
    assert result[result != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-3)
    assert abs(result.double().mean() - 1) < 5 * (p / (1 - p) / n) ** 0.5


def test_neighbours_that_share_a_draw_are_dropped_independently() -> None:
    torch.manual_seed(1)
    dropped = (FastDropout(0.5)(torch.ones(100_000, 4)) == 0).double()
    correlation = torch.corrcoef(dropped.T) - torch.eye(4, dtype=torch.double)
    assert correlation.abs().max() < 0.02


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.ones(3, 7, requires_grad=True)
    result = FastDropout(0.4)(x)
    result.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, result.detach())
    assert 0 < (result == 0).sum() < x.numel()


def test_nothing_is_dropped_in_evaluation_or_at_zero() -> None:
    x = torch.ones(5)
    assert FastDropout(0.5).eval()(x) is x and FastDropout(0.0)(x) is x


def test_the_state_of_torch_repeats_a_mask() -> None:
    layer, x = FastDropout(0.5), torch.ones(64)
    torch.manual_seed(1)
    layer(x)
    state = torch.get_rng_state()
    second, third = layer(x), layer(x)
    torch.set_rng_state(state)
    assert torch.equal(layer(x), second) and not torch.equal(second, third)


def test_a_fresh_adapter_on_a_cpu_has_it_in_every_layer() -> None:
    model = tiny_engine(TuningSettings(dropout=0.25)).model
    found = [module for module in model.modules() if isinstance(module, (FastDropout, torch.nn.Dropout))]
    assert len(found) == 6 and all(isinstance(m, FastDropout) and m.dropped == 2**14 for m in found)
