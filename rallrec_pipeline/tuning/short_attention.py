"""Packed attention over short examples as a few large products: on a CPU the fused kernel's gradient is slow.

The examples of a packed row stand below each other for it, padded to the longest, each behind the shared tokens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

LEAST = torch.finfo(torch.float32).min  # not -inf: a padded place may see nothing, and must not become NaN


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a packed row go; `rows` are its examples and, where there is one, the shared prefix."""

    rows: int
    queries: torch.Tensor
    """Token of each place of (rows, longest), flattened, int64; pads name token 0."""
    keys: torch.Tensor
    """The same of (rows, shared + longest)."""
    back: torch.Tensor
    """Place among `queries` of each token of the row, int64."""
    bias: torch.Tensor
    """(rows, 1, longest, shared + longest), float32: 0 where a token is seen."""

    @classmethod
    @functools.lru_cache(maxsize=2)  # each pass asks once a layer, forward and backward
    def of(cls, lengths: tuple[int, ...]) -> Layout:
        """Of the lengths of a `MicroBatch`: shared tokens (perhaps none), then those of each example."""
        shared, *own = lengths
        starts, ends = _bounds(lengths)
        longest, rows = max(lengths if shared else own), len(starts)
        place = torch.arange(longest)
        taken = place < (ends - starts)[:, None]  # (rows, longest)
        queries = torch.where(taken, starts[:, None] + place, 0)
        in_front = torch.arange(shared).expand(rows, -1)
        is_prefix = torch.arange(rows) < (1 if shared else 0)
        seen_in_front = (~is_prefix)[:, None, None].expand(rows, longest, shared)
        seen = taken[:, None, :] & torch.ones(longest, longest, dtype=torch.bool).tril()
        back = torch.zeros(sum(lengths), dtype=torch.int64)
        back[queries[taken]] = taken.flatten().nonzero().squeeze(1)
        bias = torch.zeros(rows, 1, longest, shared + longest)
        bias.masked_fill_(~torch.cat([seen_in_front, seen], 2)[:, None], LEAST)
        return cls(rows, queries.flatten(), torch.cat([in_front, queries], 1).flatten(), back, bias)


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...], scaling: float | None
) -> torch.Tensor:
    """Causal attention of each example over the shared tokens and its own.

    `query` is (1, heads, tokens, d), `key` and `value` (1, key heads, tokens, d), as is `lengths` those of a packed
    row. Returns (1, tokens, heads, d).
    """
    layout = Layout.of(lengths)
    heads, tokens, width = query.shape[1:]
    groups = key.shape[1]
    asked = _take(query, layout.queries, layout.rows)  # (rows, t, heads, d)
    asked = asked.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (rows, groups, heads · t, d)
    seen, mixed = (_take(states, layout.keys, layout.rows).transpose(1, 2) for states in (key, value))
    bias = layout.bias.repeat(1, 1, heads // groups, 1)
    found = _Attention.apply(asked, seen, mixed, bias, scaling or width**-0.5)
    found = found.unflatten(2, (heads // groups, -1)).permute(0, 3, 1, 2, 4)  # (rows, t, groups, heads, d)
    return found.reshape(-1, heads * width).index_select(0, layout.back).view(1, tokens, heads, width)


class _Attention(torch.autograd.Function):
    """softmax(scale · q kᵀ + bias) v; what it sees is computed again for the gradient rather than kept."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, scale: float
    ) -> torch.Tensor:
        context.save_for_backward(query, key, value, bias)
        context.scale = scale
        return _weights(query, key, bias, scale).to(value.dtype) @ value

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, bias = context.saved_tensors
        weights, (gradient,) = _weights(query, key, bias, context.scale), gradients
        of_weights = (gradient @ value.transpose(2, 3)).float()
        of_value = weights.to(value.dtype).transpose(2, 3) @ gradient
        of_scores = torch._softmax_backward_data(of_weights, weights, 3, torch.float32)
        of_scores = of_scores.mul_(context.scale).to(query.dtype)
        return of_scores @ key, of_scores.transpose(2, 3) @ query, of_value, None, None


def _weights(query: torch.Tensor, key: torch.Tensor, bias: torch.Tensor, scale: float) -> torch.Tensor:
    return torch.softmax(torch.add(bias, query @ key.transpose(2, 3), alpha=scale), 3)


def _take(states: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """(1, heads, tokens, d) -> (rows, places, heads, d)."""
    heads, tokens, width = states.shape[1:]
    flat = states.transpose(1, 2).reshape(tokens, heads * width)
    return flat.index_select(0, index).view(rows, -1, heads, width)


def _bounds(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """First token of each row of the layout, and the one behind its last."""
    ends = torch.tensor(lengths).cumsum(0)
    starts = ends - torch.tensor(lengths)
    return (starts, ends) if lengths[0] else (starts[1:], ends[1:])
