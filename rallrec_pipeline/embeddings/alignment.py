"""The projector that aligns text with collaborative vectors (eq. 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import AlignmentSettings

Progress = Callable[[int, int, str], None]

ALL_ITEMS = 8192  # up to here every item is a negative of every other; above, those of a random batch this large


@dataclass(frozen=True)
class ProjectorResult:
    """`vectors` (n, d_colla) float32 are e_ssl (eq. 6), L2 norm free; `losses` has one mean per epoch.

    `accuracy` is the share of items whose projected text is nearest to its own collaborative vector, before and
    after training.
    """

    vectors: NDArray[np.float32]
    losses: list[float] = field(default_factory=list)
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
) -> ProjectorResult:
    """Fit a two-layer MLP from `text` (n, d_text) to `collaborative` (n, d_colla); rows are the same items.

    Items whose collaborative vector is zero (none was learned) are no example, yet get a projection.
    `progress(done, total, note)` is called once per epoch.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    inputs = torch.from_numpy(_standardised(text))
    goals = torch.from_numpy(np.array(collaborative, np.float32))
    known = torch.nonzero(goals.norm(dim=1) > 0).squeeze(1)
    model = nn.Sequential(
        nn.Linear(inputs.shape[1], settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, goals.shape[1])
    )
    _initialise(model, generator)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    before = _accuracy(model, inputs[known], goals[known])
    losses: list[float] = []
    for epoch in range(settings.epochs if len(known) > 1 else 0):
        total = 0.0
        for batch in torch.split(known[torch.randperm(len(known), generator=generator)], ALL_ITEMS):
            loss = info_nce(model(inputs[batch]), goals[batch], settings.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(known))
        if progress:
            progress(epoch + 1, settings.epochs, f"loss {losses[-1]:.3f}")
    with torch.no_grad():
        vectors: NDArray[np.float32] = model(inputs).numpy()
    return ProjectorResult(vectors, losses, (before, _accuracy(model, inputs[known], goals[known])))


def _standardised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centred, and of mean row norm sqrt(d), so that one learning rate fits every encoder."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.square(centred).mean())
    return np.ascontiguousarray(centred / (scale if scale > 0 else 1.0), np.float32)


def _initialise(model: torch.nn.Sequential, generator: torch.Generator) -> None:
    """Weights from `generator` alone: the global random state is neither read nor changed."""
    from torch import nn

    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(layer.bias)


def _accuracy(model: torch.nn.Sequential, inputs: torch.Tensor, goals: torch.Tensor) -> float:
    import torch
    from torch.nn.functional import normalize

    if not len(inputs):
        return 0.0
    sample = slice(0, ALL_ITEMS)
    with torch.no_grad():
        similarity = normalize(model(inputs[sample]), dim=1) @ normalize(goals[sample], dim=1).T
    own = torch.arange(len(similarity))
    return float((similarity.argmax(dim=1) == own).float().mean())
