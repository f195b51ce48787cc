"""What makes e_ssl of text vectors: a two-layer MLP (eq. 6), one matrix, or attention over the other items.

A projector is called with standardised text vectors `inputs` (m, d_text), the items that it may look at, and `own`
(m,), which of these each row is (-1 where it is none); it gives (m, d_colla).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import AlignmentSettings

NOT_ITSELF = -1e9  # as a score: no weight, and no NaN where there is no other item


class Known(NamedTuple):
    """Items with text vectors `inputs` (n, d_text) and collaborative vectors `goals` (n, d_colla)."""

    inputs: torch.Tensor
    goals: torch.Tensor


class Projector(Protocol):
    """A fit of one kind; weights come from the generator alone, the global random state is neither read nor changed."""

    looks_at_others: bool

    def __call__(self, inputs: torch.Tensor, known: Known, own: torch.Tensor) -> torch.Tensor: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def arrays(self) -> dict[str, NDArray[np.float32]]: ...


def new_projector(settings: AlignmentSettings, text: int, collaborative: int, generator: torch.Generator) -> Projector:
    """One of the kind that the settings ask for, with random weights, from `text` to `collaborative` numbers."""
    if settings.kind == "attention":
        return Attention(text, settings.hidden, settings.temperature, generator)
    return Layers(
        (text, settings.hidden, collaborative) if settings.kind == "mlp" else (text, collaborative), generator
    )


def projected(text: NDArray[np.float32], tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """e_ssl of further items by a stored projector of layers; None for one that looks at other items.

    `text` (k, d_text) are their text vectors, `tensors` those of `ProjectorResult`.
    """
    if "output.weight" not in tensors:
        return None
    values = (text - tensors["input.mean"]) / tensors["input.scale"][0]
    if "hidden.weight" in tensors:
        values = np.maximum(values @ tensors["hidden.weight"].T + tensors["hidden.bias"], 0)
    return np.asarray(values @ tensors["output.weight"].T + tensors["output.bias"], np.float32)


class Layers:
    """Linear layers of the given `widths` with ReLU between: the papers' MLP, or a single matrix."""

    looks_at_others = False

    def __init__(self, widths: tuple[int, ...], generator: torch.Generator) -> None:
        from torch import nn

        self._linear = [_layer(*pair, generator) for pair in pairwise(widths)]
        hidden = [part for layer in self._linear[:-1] for part in (layer, nn.ReLU())]
        self._model = nn.Sequential(*hidden, self._linear[-1])

    def __call__(self, inputs: torch.Tensor, known: Known, own: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self._model(inputs)
        return projected

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return self._model.parameters()

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return _arrays(dict(zip(("hidden", "output")[-len(self._linear) :], self._linear, strict=True)))


class Attention:
    """The mean direction of the other items' collaborative vectors, weighted by how their texts match.

    Weights are a softmax over cosines of queries and keys, both projected from text to `width` numbers, divided by the
    temperature. Keys begin as queries do, so the first weights are those of similar texts. An item's own vector has no
    weight: what it knows of itself comes from others.
    """

    looks_at_others = True

    def __init__(self, text: int, width: int, temperature: float, generator: torch.Generator) -> None:
        self._query, self._key = (_layer(text, width, generator) for _ in range(2))
        self._key.load_state_dict(self._query.state_dict())
        self._temperature = temperature

    def __call__(self, inputs: torch.Tensor, known: Known, own: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import normalize

        queries, keys = normalize(self._query(inputs), dim=1), normalize(self._key(known.inputs), dim=1)
        itself = own[:, None] == torch.arange(len(keys))
        scores = (queries @ keys.T / self._temperature).masked_fill(itself, NOT_ITSELF)  # (m, n)
        weights = scores.softmax(dim=1).masked_fill(itself, 0)
        return weights @ normalize(known.goals, dim=1)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return (parameter for layer in (self._query, self._key) for parameter in layer.parameters())

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return _arrays({"query": self._query, "key": self._key})


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> torch.nn.Linear:
    from torch import nn
    from torch.nn.utils import skip_init

    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _arrays(layers: dict[str, torch.nn.Linear]) -> dict[str, NDArray[np.float32]]:
    return {
        f"{name}.{key}": value.numpy().copy()
        for name, layer in layers.items()
        for key, value in layer.state_dict().items()
    }
