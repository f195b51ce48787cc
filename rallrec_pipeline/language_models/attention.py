"""Attention for the short contexts of prompts and descriptions: on a CPU faster than the kernels of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "rallrec_grouped"
# Tokens of context up to which two plain products beat the CPU's fused kernel, by the bytes of a number
# (SmolLM2-135M's heads, 2 cores with AVX-512: 0.9 against 2.6 ms in bfloat16 and 2.0 against 2.6 in float32 for 10
# prompts of 100 tokens; docs/experiments.md).
SHORT = {2: 1024, 4: 192}
MOST_SCORES = 1 << 24  # held at once, 12 bytes each


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As sdpa, which it calls for long contexts, for gradients and for a position bias.

    `query` is (batch, heads, tokens, d); `key` and `value` are (batch, key heads, context, d); returns
    (batch, tokens, heads, d). The heads that share keys stand along the query axis, so no key is repeated.
    """
    plain = options.get("position_bias") is None and not torch.is_grad_enabled()
    if plain and query.device.type == "cpu" and _is_short(query, key):
        return _two_products(query, key, value, attention_mask, scaling).transpose(1, 2), None
    batch, heads, tokens, width = query.shape
    if tokens != 1:
        result = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return result[0], None
    grouped = query.view(batch, key.shape[1], heads // key.shape[1], width)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return mixed.reshape(batch, 1, heads, width), None


def register() -> str:
    """Make the attention known to transformers; returns its name."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _is_short(query: torch.Tensor, key: torch.Tensor) -> bool:
    batch, heads, tokens, _ = query.shape
    context = key.shape[2]
    longest = SHORT.get(query.element_size(), 0)
    return batch * heads * tokens * context <= MOST_SCORES and (tokens == 1 or context <= longest)


def _two_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """softmax(scale · q kᵀ + mask) v with the softmax in float32; (batch, heads, tokens, d)."""
    batch, heads, tokens, width = query.shape
    groups, context = key.shape[1:3]
    rows = batch * groups
    asked = query.reshape(rows, -1, width)
    products = torch.bmm(asked, key.reshape(rows, context, width).transpose(1, 2))  # (rows, heads of a group · t, s)
    bias = _bias(mask, tokens, context)[:, None]
    scores = torch.add(bias, products.view(batch, groups, -1, tokens, context), alpha=scaling or width**-0.5)
    weights = torch.softmax(scores, -1).to(value.dtype).view(rows, -1, context)
    return torch.bmm(weights, value.reshape(rows, context, width)).view(batch, heads, tokens, width)


def _bias(mask: torch.Tensor | None, tokens: int, context: int) -> torch.Tensor:
    """What is added to scores, float32, broadcast over (batch, heads, tokens, context).

    Without a mask attention is causal, the last token seeing all. What is masked gets the least number, not -inf: a
    padded place sees nothing, and must not become NaN.
    """
    if mask is None and tokens == 1:
        return torch.zeros(1, 1, 1, 1)
    if mask is None:
        mask = torch.ones(tokens, context, dtype=torch.bool).tril(context - tokens)[None, None]
    if mask.dtype != torch.bool:
        return mask.float()
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
