"""Attention for the short contexts of prompts and descriptions: on a CPU faster than the kernels of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rallrec_pipeline.language_models.sizing.footprint import MOST_SCORES

NAME = "rallrec_grouped"
# Tokens of context up to which two plain products beat the CPU's fused kernel (docs/experiments.md).
SHORT = {torch.bfloat16: 1024, torch.float32: 192}


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The same as sdpa. Short causal contexts on a CPU, and single tokens, are computed here; sdpa does the rest.

    `query` is (batch, heads, tokens, d); `key` and `value` are (batch, key heads, context, d); `attention_mask` is
    boolean, true where a token is seen. Returns (batch, tokens, heads, d). The heads that share keys stand along the
    query axis, so no key is repeated.
    """
    batch, heads, tokens, width = query.shape
    if query.device.type == "cpu":
        if _is_short(query, key) and _is_plain(module, query, key, attention_mask, options):
            return _two_products(query, key, value, attention_mask, scaling).transpose(1, 2), None
        key = key.contiguous()  # a cache may hold it in another order, for which there is no fused kernel
    if tokens != 1:
        result = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return result[0], None
    grouped = query.view(batch, key.shape[1], heads // key.shape[1], width)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    return mixed.reshape(batch, 1, heads, -1), None


def register() -> str:
    """Make the attention known to transformers; returns its name."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _is_short(query: torch.Tensor, key: torch.Tensor) -> bool:
    batch, heads, tokens, _ = query.shape
    context = key.shape[2]
    if batch * heads * tokens * context > MOST_SCORES or query.dtype not in SHORT:
        return False
    return tokens == 1 or context <= SHORT[query.dtype]


def _is_plain(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> bool:
    """Whether only the mask or the order of tokens decides what a token sees, and no gradient is asked for."""
    if torch.is_grad_enabled() or any(options.get(name) is not None for name in ("position_bias", "cache")):
        return False
    if mask is not None:
        return mask.dtype == torch.bool
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return query.shape[2] == 1 or (causal and query.shape[2] == key.shape[2])


def _two_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float | None
) -> torch.Tensor:
    """softmax(scale · q kᵀ) v over what is seen; (batch, heads, tokens, d).

    The scores are rounded to the type of the queries, the softmax is computed in float32.
    """
    batch, heads, tokens, width = query.shape
    groups, context = key.shape[1:3]
    rows = batch * groups
    asked = query.reshape(rows, -1, width)
    products = torch.bmm(asked, key.reshape(rows, context, width).transpose(1, 2))  # (rows, heads of a group · t, s)
    bias = _bias(mask, tokens)[:, None]
    scores = torch.add(bias, products.view(batch, groups, -1, tokens, context), alpha=scaling or width**-0.5)
    weights = torch.softmax(scores, -1).to(value.dtype).view(rows, -1, context)
    return torch.bmm(weights, value.reshape(rows, context, -1)).view(batch, heads, tokens, -1)


def _bias(mask: torch.Tensor | None, tokens: int) -> torch.Tensor:
    """What is added to scores, float32, broadcast over (batch, heads, tokens, context).

    What is not seen gets the least number, not -inf: a padded place that sees nothing must not become NaN.
    """
    if mask is None and tokens == 1:
        return torch.zeros(1, 1, 1, 1)
    if mask is None:
        mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()[None, None]
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
