"""Attention that does not copy keys and values for grouped queries while decoding."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "rallrec_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As sdpa; with one query token the heads that share keys stand along the query axis, so no key is repeated.

    `query` is (batch, heads, tokens, d); `key` and `value` are (batch, key heads, context, d).
    """
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
