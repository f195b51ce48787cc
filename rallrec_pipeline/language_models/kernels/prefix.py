"""Keys and values of tokens that several prompts begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with room for all tokens to come: appending copies nothing but the new ones.

    On a CPU keys lie in memory as the product with queries reads them, (batch, heads, width, capacity). With one query
    a row, the product then takes a quarter of the time. Kernels of a GPU want them token by token.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, batch: int, capacity: int) -> None:
        """`keys` and `values` (1 or batch, heads, tokens, width) are those of the prefix."""
        super().__init__()
        self.capacity, self.batch, self.length = capacity, batch, keys.shape[-2]
        self.lazy_initialization(keys, values)
        self._keys[:, :, : self.length] = keys
        self._values[:, :, : self.length] = values
        self._show()

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
        return self._show()

    def get_seq_length(self) -> int:
        return self.length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._keys = self._keys.transpose(2, 3)[indices].transpose(2, 3)  # the order in memory stays
        self._values = self._values[indices]
        self.batch = len(indices)
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Point `keys` and `values` at what is filled."""
        self.keys, self.values = self._keys[:, :, : self.length], self._values[:, :, : self.length]
        return self.keys, self.values


def compute_prefix(model: Any, prefixes: Sequence[Sequence[int]], known: Cache | None = None) -> Cache:
    """Keys and values of `prefixes`, all equally long, a row each; `model` may be a backbone or have a head.

    `known` holds the keys and values of the first tokens, which are the same in all prefixes.
    """
    rows, length = len(prefixes), len(prefixes[0])
    cache = expand_prefix(known, rows, length) if known is not None else DynamicCache()
    rest = [list(prefix[cache.get_seq_length() :]) for prefix in prefixes]
    if rest[0]:
        device = next(model.parameters()).device
        model(input_ids=torch.tensor(rest, device=device), past_key_values=cache, use_cache=True)
    return cache


def expand_prefix(prefix: Cache, batch: int, capacity: int, rows: Sequence[int] | None = None) -> Cache:
    """A cache for `batch` rows that begin with `prefix`, with room for `capacity` tokens in all.

    Where `prefix` has several rows, `rows` says which of them each row of the batch begins with.
    """
    if not prefix.layers:
        return DynamicCache()
    layers: list[Any] = prefix.layers
    if rows is None:
        return Cache(layers=[RoomyLayer(layer.keys, layer.values, batch, capacity) for layer in layers])
    picked = torch.tensor(rows, device=layers[0].keys.device)
    return Cache(layers=[RoomyLayer(layer.keys[picked], layer.values[picked], batch, capacity) for layer in layers])
