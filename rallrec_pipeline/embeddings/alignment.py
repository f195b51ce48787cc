"""The fit of a projector that aligns text with collaborative vectors (eq. 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.projectors import Known, Projector, new_projector

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import AlignmentSettings

Progress = Callable[[int, int], None]

ALL_ITEMS = 8192  # up to here every item is a negative of every other; above, those of a random batch this large
CELLS = 2**24  # of items against items that are projected at once: 64 MB of float32


@dataclass(frozen=True)
class ProjectorResult:
    """`vectors` (n, d_colla) float32 are e_ssl (eq. 6), L2 norm free; `losses` has one mean per epoch.

    `loss` (eq. 5) and `accuracy`, the share of items whose projected text is nearest to its own collaborative vector,
    are before and after training. `tensors` is the fitted projector over standardised text vectors: the `weight` (out,
    in) and `bias` (out,) float32 of its layers, by name `hidden` and `output` (kind `mlp`), `output` (`linear`), or
    `query` and `key` (`attention`); `input.mean` (d_text,) and `input.scale` (1,) float64, without which the first
    layer means nothing.
    """

    vectors: NDArray[np.float32]
    tensors: dict[str, NDArray[Any]]
    losses: list[float] = field(default_factory=list)
    loss: tuple[float, float] = (0.0, 0.0)
    accuracy: tuple[float, float] = (0.0, 0.0)


def info_nce(projected: torch.Tensor, collaborative: torch.Tensor, temperature: float) -> torch.Tensor:
    """Eq. 5: symmetric InfoNCE of (n, d) and (n, d) by cosine; row i of each is the other's positive."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    similarity = normalize(projected, dim=1) @ normalize(collaborative, dim=1).T / temperature  # (n, n)
    own = torch.arange(len(similarity), device=similarity.device)
    return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2


def train_projector(
    text: NDArray[np.float32],
    collaborative: NDArray[np.float32],
    settings: AlignmentSettings,
    seed: int,
    progress: Progress | None = None,
    examples: NDArray[np.bool_] | None = None,
) -> ProjectorResult:
    """Fit a projector from `text` (n, d_text) to `collaborative` (n, d_colla); rows are the same items.

    `examples` (n,) says which items it may learn from, by default all. Those whose collaborative vector is zero (none
    was learned) are no example either; every item gets a projection. Attention looks at examples only, in training at
    those of the batch, and never at the item itself.
    `progress(done, total)` is called once per epoch. All epochs are taken: there is no held-out score to stop by.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    seen = np.ones(len(text), np.bool_) if examples is None else examples
    mean, scale = _moments(text[seen])
    inputs = torch.from_numpy(_standardised(text, mean, scale))
    goals = torch.from_numpy(np.array(collaborative, np.float32))
    known = torch.nonzero((goals.norm(dim=1) > 0) & torch.from_numpy(seen)).squeeze(1)
    model = new_projector(settings, inputs.shape[1], goals.shape[1], generator)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    before = _accuracy(model, inputs[known], goals[known])
    loss_before = _mean_loss(model, inputs[known], goals[known], settings.temperature)
    losses: list[float] = []
    for epoch in range(settings.epochs if len(known) > 1 else 0):
        total = 0.0
        for batch in torch.split(known[torch.randperm(len(known), generator=generator)], ALL_ITEMS):
            loss = info_nce(_among(model, inputs[batch], goals[batch]), goals[batch], settings.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(known))
        if progress:
            progress(epoch + 1, settings.epochs)
    loss_after = _mean_loss(model, inputs[known], goals[known], settings.temperature)
    return ProjectorResult(
        _project(model, inputs, goals, known),
        {**model.arrays(), "input.mean": mean, "input.scale": np.array([scale])},
        losses,
        (loss_before, loss_after),
        (before, _accuracy(model, inputs[known], goals[known])),
    )


def _among(model: Projector, inputs: torch.Tensor, goals: torch.Tensor) -> torch.Tensor:
    """What the projector makes of examples that are all it knows."""
    import torch

    return model(inputs, Known(inputs, goals), torch.arange(len(inputs)))


def _project(model: Projector, inputs: torch.Tensor, goals: torch.Tensor, known: torch.Tensor) -> NDArray[np.float32]:
    """Every item, of which the rows `known` may be looked at."""
    import torch

    own = torch.full((len(inputs),), -1)
    own[known] = torch.arange(len(known))
    at_once = max(1, CELLS // max(1, len(known))) if model.looks_at_others else len(inputs)
    examples = Known(inputs[known], goals[known])
    with torch.no_grad():
        parts = zip(torch.split(inputs, at_once), torch.split(own, at_once), strict=True)
        vectors: NDArray[np.float32] = torch.cat([model(rows, examples, places) for rows, places in parts]).numpy()
    return vectors


def _moments(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Mean (d,) of the rows, and the root mean square of what is left."""
    mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
    scale = float(np.sqrt(np.square(vectors - mean).mean()))
    return mean, scale if scale > 0 else 1.0


def _standardised(vectors: NDArray[np.float32], mean: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """Centred, and of mean row norm sqrt(d), so that one learning rate fits every encoder."""
    return np.ascontiguousarray((vectors - mean) / scale, np.float32)


def _mean_loss(model: Projector, inputs: torch.Tensor, goals: torch.Tensor, temperature: float) -> float:
    """Eq. 5 over batches of neighbouring rows; 0 without rows."""
    import torch

    with torch.no_grad():
        parts = [
            info_nce(_among(model, x, y), y, temperature).item() * len(x)
            for x, y in zip(torch.split(inputs, ALL_ITEMS), torch.split(goals, ALL_ITEMS), strict=True)
        ]
    return sum(parts) / max(1, len(inputs))


def _accuracy(model: Projector, inputs: torch.Tensor, goals: torch.Tensor) -> float:
    import torch
    from torch.nn.functional import normalize

    if not len(inputs):
        return 0.0
    sample = slice(0, ALL_ITEMS)
    with torch.no_grad():
        similarity = normalize(_among(model, inputs[sample], goals[sample]), dim=1) @ normalize(goals[sample], dim=1).T
    own = torch.arange(len(similarity))
    return float((similarity.argmax(dim=1) == own).float().mean())
