"""Packed attention over short examples as a few large products: on a CPU the fused kernel's gradient is slow.

The examples of a packed row stand below each other for it, padded to the longest, each behind the shared tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

LEAST = torch.finfo(torch.float32).min
LONGEST = {torch.bfloat16: 320}
"""Tokens of an example, shared ones twice, up to which this beats the kernel. In float32 it gains next to nothing."""
MOST_PADDING = 1.5  # places of all rows, for each that holds a token


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a packed row go; its rows are the shared prefix, where there is one, and the examples."""

    rows: int
    queries: torch.Tensor
    """Token of each place of (rows, longest), flattened, int64; pads name token 0."""
    keys: torch.Tensor
    """The same of (rows, shared + longest)."""
    back: torch.Tensor
    """Place among `queries` of each token of the row, int64."""
    bias: torch.Tensor
    """(rows, 1, 1, longest, shared + longest), float32: 0 where a token is seen, the least number elsewhere."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Layout:
        """Of the lengths of a `MicroBatch`: shared tokens (perhaps none), then those of each example."""
        shared, sizes = lengths[0], torch.tensor(lengths)
        ends = sizes.cumsum(0)
        if not shared:
            sizes, ends = sizes[1:], ends[1:]
        starts, rows, longest = ends - sizes, len(sizes), int(sizes.max())
        place = torch.arange(longest)
        taken = place < sizes[:, None]  # (rows, longest)
        queries = torch.where(taken, starts[:, None] + place, 0)
        in_front = torch.arange(shared).expand(rows, -1)
        behind_prefix = torch.arange(rows) >= (1 if shared else 0)
        seen_in_front = behind_prefix[:, None, None].expand(rows, longest, shared)
        seen = taken[:, None, :] & torch.ones(longest, longest, dtype=torch.bool).tril()
        bias = torch.zeros(rows, longest, shared + longest)
        bias.masked_fill_(~torch.cat([seen_in_front, seen], 2), LEAST)
        back = torch.zeros(sum(lengths), dtype=torch.int64)
        back[queries[taken]] = taken.flatten().nonzero().squeeze(1)
        return cls(rows, queries.flatten(), torch.cat([in_front, queries], 1).flatten(), back, bias[:, None, None])


def layout_of(lengths: Sequence[int] | None, dtype: torch.dtype, device: torch.device) -> Layout | None:
    """The layout of a packed row where its examples are short and even enough for these products, else None."""
    if lengths is None or device.type != "cpu":
        return None
    shared, *own = lengths
    rows, longest = len(own) + bool(shared), max(lengths)
    if shared + longest > LONGEST.get(dtype, 0) or rows * longest > MOST_PADDING * sum(lengths):
        return None
    return Layout.of(lengths)


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float | None
) -> torch.Tensor:
    """Causal attention of each example over the shared tokens and its own.

    `query` is (1, heads, tokens, d), `key` and `value` (1, key heads, tokens, d). Returns (1, tokens, heads, d).
    """
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    asked = _take(query, layout.queries, layout.rows)  # (rows, t, heads, d)
    asked = asked.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (rows, groups, heads · t, d)
    seen, mixed = (_take(states, layout.keys, layout.rows).transpose(1, 2) for states in (key, value))
    found = _Attention.apply(asked, seen, mixed, layout.bias, scaling or width**-0.5)
    found = found.unflatten(2, (heads // groups, -1)).permute(0, 3, 1, 2, 4)  # (rows, t, groups, heads, d)
    return found.reshape(-1, heads * width).index_select(0, layout.back).view(1, tokens, heads, width)


class _Attention(torch.autograd.Function):
    """softmax(scale · q kᵀ + bias) v; weights are computed again for the gradient rather than kept."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float
    ) -> torch.Tensor:
        context.save_for_backward(query, key, value, bias)
        context.scale = scale
        return _weights(query, key, bias, scale).to(value.dtype) @ value

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, bias = context.saved_tensors
        weights = _weights(query, key, bias, context.scale)
        of_value = weights.to(value.dtype).transpose(2, 3) @ gradient
        of_scores = (gradient @ value.transpose(2, 3)).float().mul_(weights)
        of_scores = of_scores.addcmul_(weights, of_scores.sum(3, keepdim=True), value=-1)
        rounded = of_scores.mul_(context.scale).to(query.dtype)
        return rounded @ key, rounded.transpose(2, 3) @ query, of_value, None, None


def _weights(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    """(rows, groups, heads · t, s), float32."""
    products = (query @ key.transpose(2, 3)).unflatten(2, (-1, bias.shape[3]))
    return torch.softmax(torch.add(bias, products, alpha=scale), 4).flatten(2, 3)


def _take(states: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """(1, heads, tokens, d) -> (rows, places, heads, d)."""
    heads, tokens, width = states.shape[1:]
    flat = states.transpose(1, 2).reshape(tokens, heads * width)
    return flat.index_select(0, index).view(rows, -1, heads, width)
