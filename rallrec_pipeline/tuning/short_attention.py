"""Packed attention over short examples as a few large products: on a CPU the fused kernel's gradient is slow.

The examples of a packed row stand below each other for it, each behind the shared tokens: those of about equal length
together, padded to the longest of them.
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
MOST_PADDING = 1.5  # places of a band, for each that holds a token


@dataclass(frozen=True)
class Band:
    """Examples of about equal length, or the shared tokens by themselves, and where their tokens go."""

    rows: int
    queries: torch.Tensor
    """Token of each place of (rows, longest), flattened, int64; pads name token 0."""
    keys: torch.Tensor
    """The same of (rows, shared + longest)."""
    bias: torch.Tensor
    """(rows, 1, 1, longest, shared + longest), float32: 0 where a token is seen, the least number elsewhere."""
    tokens: torch.Tensor
    """Of the packed row, int64, in the order of their places."""
    places: torch.Tensor
    """Those among `queries` that hold a token, int64."""

    @classmethod
    def of(cls, shared: int, starts: torch.Tensor, sizes: torch.Tensor) -> Band:
        """Of rows that begin at `starts` of the packed row, each of which sees `shared` tokens before its own."""
        rows, longest = len(sizes), int(sizes.max())
        place = torch.arange(longest)
        taken = place < sizes[:, None]  # (rows, longest)
        queries = torch.where(taken, starts[:, None] + place, 0)
        in_front = torch.arange(shared).expand(rows, -1)
        seen_in_front = torch.ones(rows, longest, shared, dtype=torch.bool)
        seen = taken[:, None, :] & torch.ones(longest, longest, dtype=torch.bool).tril()
        bias = torch.zeros(rows, longest, shared + longest)
        bias.masked_fill_(~torch.cat([seen_in_front, seen], 2), LEAST)
        keys = torch.cat([in_front, queries], 1).flatten()
        places = taken.flatten().nonzero().squeeze(1)
        return cls(rows, queries.flatten(), keys, bias[:, None, None], queries[taken], places)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a packed row go."""

    bands: tuple[Band, ...]
    back: torch.Tensor
    """Place of each token of the row among those of all bands, int64."""

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Layout:
        """Of the lengths of a `MicroBatch`: shared tokens (perhaps none), then those of each example."""
        shared, sizes = lengths[0], torch.tensor(lengths)
        starts = sizes.cumsum(0) - sizes
        bands = [Band.of(0, starts[:1], sizes[:1])] if shared else []
        bands += [Band.of(shared, starts[rows], sizes[rows]) for rows in _even(lengths)]
        back, before = torch.zeros(sum(lengths), dtype=torch.int64), 0
        for band in bands:
            back[band.tokens] = before + band.places
            before += len(band.queries)
        return cls(tuple(bands), back)


def _even(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of the examples (the first length is that of the shared tokens), by bands."""
    bands: list[list[int]] = []
    for row in sorted(range(1, len(lengths)), key=lambda row: -lengths[row]):
        if not bands or lengths[row] * MOST_PADDING < lengths[bands[-1][0]]:
            bands.append([])
        bands[-1].append(row)
    return bands


def layout_of(lengths: Sequence[int] | None, dtype: torch.dtype, device: torch.device) -> Layout | None:
    """The layout of a packed row where its examples are short enough for these products, else None."""
    if lengths is None or device.type != "cpu" or lengths[0] + max(lengths) > LONGEST.get(dtype, 0):
        return None
    return Layout.of(lengths)


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scaling: float | None
) -> torch.Tensor:
    """Causal attention of each example over the shared tokens and its own.

    `query` is (1, heads, tokens, d), `key` and `value` (1, key heads, tokens, d). Returns (1, tokens, heads, d).
    """
    heads, tokens, width = query.shape[1:]
    groups, scale = key.shape[1], scaling or width**-0.5
    query, key, value = (states.transpose(1, 2).reshape(tokens, -1) for states in (query, key, value))
    found = [_of_band(query, key, value, band, groups, width, scale) for band in layout.bands]
    return torch.cat(found).index_select(0, layout.back).view(1, tokens, heads, width)


def _of_band(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, band: Band, groups: int, width: int, scale: float
) -> torch.Tensor:
    """(tokens, heads · d) each -> (places of the band, heads · d)."""
    asked = query.index_select(0, band.queries).view(band.rows, -1, groups, query.shape[1] // groups // width, width)
    asked = asked.permute(0, 2, 3, 1, 4).flatten(2, 3)  # (rows, groups, heads of a group · t, d)
    seen, mixed = (
        states.index_select(0, band.keys).view(band.rows, -1, groups, width).transpose(1, 2) for states in (key, value)
    )
    found = _Attention.apply(asked, seen, mixed, band.bias, scale)
    found = found.unflatten(2, (-1, band.bias.shape[3])).permute(0, 3, 1, 2, 4)  # (rows, t, groups, heads, d)
    return found.reshape(-1, query.shape[1])


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
