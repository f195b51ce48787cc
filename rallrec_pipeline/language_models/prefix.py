"""Tokens that all prompts begin with are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

MIN_SHARED = 8  # tokens: below this, copying the keys of the prefix costs what it saves


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room for all tokens to come: appending copies nothing but the new ones.

    On a CPU keys lie in memory as the product with queries reads them, (batch, heads, width, capacity): for one query
    a row it takes a quarter of the time then. Kernels of a GPU want them token by token.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, batch: int, capacity: int) -> None:
        """`keys` and `values` (1, heads, tokens, width) are those of the prefix."""
        super().__init__()
        self.capacity, self.batch, self.length = capacity, batch, keys.shape[-2]
        self.lazy_initialization(keys, values)
        self._keys[:, :, : self.length] = keys
        self._values[:, :, : self.length] = values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        heads, width = key_states.shape[1], key_states.shape[3]
        shape = (self.batch, heads, self.capacity, width)
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys = torch.empty(shape, dtype=self.dtype, device=self.device)
        if self.device.type == "cpu":
            self._keys = self._keys.view(self.batch, heads, width, self.capacity).transpose(2, 3)
        self._values = torch.empty(shape, dtype=self.dtype, device=self.device)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        end = self.length + key_states.shape[-2]
        self._keys[:, :, self.length : end] = key_states
        self._values[:, :, self.length : end] = value_states
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._keys = self._keys.transpose(2, 3)[indices].transpose(2, 3)  # the order in memory stays
        self._values = self._values[indices]
        self.batch = len(indices)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts share, at least one token of each left over."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return max(0, min(sum(1 for _ in alike), min(map(len, prompts)) - 1))


def worthwhile_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """`shared_prefix`, or 0 where it is too short, or the prompts too few, to be worth it."""
    shared = shared_prefix(prompts) if len(prompts) > 1 else 0
    return shared if shared >= MIN_SHARED else 0


def compute_prefix(model: Any, prefix: Sequence[int]) -> Cache:
    """Keys and values of `prefix` for one row; `model` may be a backbone or have a head."""
    cache = DynamicCache()
    device = next(model.parameters()).device
    if prefix:
        model(input_ids=torch.tensor([list(prefix)], device=device), past_key_values=cache, use_cache=True)
    return cache


def expand_prefix(prefix: Cache, batch: int, capacity: int) -> Cache:
    """A cache for `batch` rows that begin with `prefix`, with room for `capacity` tokens in all."""
    if not prefix.layers:
        return DynamicCache()
    layers: list[Any] = prefix.layers
    return Cache(layers=[RoomyLayer(layer.keys, layer.values, batch, capacity) for layer in layers])
