"""Attention over a row in which several examples stand end to end behind the tokens that they share.

Of a decoder's parts only attention looks across tokens, so with it everything else runs without padding, and a shared
prefix is computed once in a training step, gradient included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from rallrec_pipeline.tuning.short_attention import Layout, short_attention

NAME = "rallrec_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    lengths: tuple[int, ...],
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each example over the shared tokens and its own; returns (1, tokens, heads, d).

    `query` is (1, heads, tokens, d); `key` and `value` are (1, key heads, tokens, d). `lengths` are those of
    `MicroBatch`. With a `layout`, which is one of these lengths, all examples go through a few products at once.
    Without one each takes PyTorch's kernel, the shared tokens anew in front of it: for as few as they are that is
    cheaper than a mask, with which there is no fast kernel.
    """
    if layout is not None and not dropout:
        return short_attention(query, key, value, layout, scaling), None
    # One split, not slices: the gradient of a slice is a tensor of zeros as large as all tokens.
    parts = [states.split(lengths, dim=2) for states in (query, key, value)]
    grouped = query.shape[1] != key.shape[1]
    found = []
    for example in range(1, len(lengths)):
        q, k, v = (torch.cat((part[0], part[example]), dim=2) for part in parts)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=grouped
        )
        found.append(mixed if example == 1 else mixed[:, :, lengths[0] :])
    return torch.cat(found, dim=2).transpose(1, 2), None


@contextmanager
def packed_attention_in(backbone: Any) -> Iterator[None]:
    """Within it the decoder takes packed rows, and only those: every call must give their `lengths`."""
    AttentionInterface.register(NAME, packed_attention)  # under a name without a mask function no mask is made
    before = backbone.config._attn_implementation
    backbone.set_attn_implementation(NAME)
    try:
        yield
    finally:
        backbone.set_attn_implementation(before)
