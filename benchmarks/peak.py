"""What the machine could do at most: the rate of a bare matrix product, and how much work a token is."""

from __future__ import annotations

import time
from typing import Any

import torch

from rallrec_pipeline.language_models.kernels.packing import PackedLinear, packed_if_possible

ROWS, HIDDEN, INNER = 1024, 576, 1536  # of a feed-forward layer of SmolLM2-135M
REPEATS = 20


def peak_gflops(dtype: torch.dtype) -> float:
    """Fastest of some products of the shape of a feed-forward layer, in 10^9 floating-point operations a second.

    With weights as they are, and packed as the engine packs them.
    """
    inputs, layer = torch.ones(ROWS, HIDDEN, dtype=dtype), torch.nn.Linear(HIDDEN, INNER, bias=False, dtype=dtype)
    layer.requires_grad_(False)
    best = float("inf")
    with torch.inference_mode():
        for product in (layer, packed_if_possible(layer)):
            for _ in range(REPEATS):
                start = time.perf_counter()
                product(inputs)
                best = min(best, time.perf_counter() - start)
    return 2 * ROWS * HIDDEN * INNER / best / 1e9


def gflop_per_token(backbone: Any) -> float:
    """Of a forward pass through the layers' matrices, without attention and output head: what is useful at least."""
    kinds = (torch.nn.Linear, PackedLinear)
    linear = [m for n, m in backbone.named_modules() if isinstance(m, kinds) and "lora" not in n]
    return 2 * sum(module.in_features * module.out_features for module in linear) / 1e9
