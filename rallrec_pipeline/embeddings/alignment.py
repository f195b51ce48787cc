"""The projector that aligns text with collaborative vectors (eq. 5 and 6).

A fit may start from the projector of an earlier one. The state of its optimiser is not kept: AdamW's averages are made
anew within some ten steps, and the loss that they were averages of has changed with the items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from rallrec_pipeline.settings import AlignmentSettings

Progress = Callable[[int, int, str], None]

ALL_ITEMS = 8192  # up to here every item is a negative of every other; above, those of a random batch this large


@dataclass(frozen=True)
class Projector:
    """A fitted MLP over standardised text vectors, as arrays, and the `loss` that its fit ended at.

    `tensors`: `hidden.weight` (h, d_text), `hidden.bias` (h,), `output.weight` (d_colla, h), `output.bias` (d_colla,)
    float32; `input.mean` (d_text,) and `input.scale` (1,) float64, without which the first layer means nothing: the
    mean and the scale of the next run's items are others.
    """

    tensors: dict[str, NDArray[Any]]
    loss: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Text, hidden and collaborative dimensions."""
        return (*self.tensors["hidden.weight"].shape[::-1], len(self.tensors["output.bias"]))


@dataclass(frozen=True)
class ProjectorResult:
    """`vectors` (n, d_colla) float32 are e_ssl (eq. 6), L2 norm free; `losses` has one mean per epoch.

    `loss` (eq. 5) and `accuracy`, the share of items whose projected text is nearest to its own collaborative vector,
    are before and after training.
    """

    vectors: NDArray[np.float32]
    projector: Projector
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
    start: Projector | None = None,
) -> ProjectorResult:
    """Fit a two-layer MLP from `text` (n, d_text) to `collaborative` (n, d_colla); rows are the same items.

    Items whose collaborative vector is zero (none was learned) are no example, yet get a projection.
    `progress(done, total, note)` is called once per epoch.

    A cold fit takes all epochs: there is no held-out score to stop by, and the loss goes on falling as the projector
    learns the items by heart. So a warm one goes as far as the fit that it starts from, no further: it ends when its
    loss is down to the loss that one ended at, which may be before the first epoch.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    mean, scale = _moments(text)
    inputs = torch.from_numpy(_standardised(text, mean, scale))
    goals = torch.from_numpy(np.array(collaborative, np.float32))
    known = torch.nonzero(goals.norm(dim=1) > 0).squeeze(1)
    model = _model(inputs.shape[1], settings.hidden, goals.shape[1], generator)
    if start:
        _load(model, start, mean, scale)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    before = _accuracy(model, inputs[known], goals[known])
    loss_before = loss_now = _mean_loss(model, inputs[known], goals[known], settings.temperature)
    losses: list[float] = []
    for epoch in range(settings.epochs if len(known) > 1 else 0):
        if start and loss_now <= start.loss:
            break
        total = 0.0
        for batch in torch.split(known[torch.randperm(len(known), generator=generator)], ALL_ITEMS):
            loss = info_nce(model(inputs[batch]), goals[batch], settings.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(known))
        if start:
            loss_now = _mean_loss(model, inputs[known], goals[known], settings.temperature)
        if progress:
            progress(epoch + 1, settings.epochs, f"loss {losses[-1]:.3f}")
    loss_after = _mean_loss(model, inputs[known], goals[known], settings.temperature)
    return ProjectorResult(
        _project(model, inputs),
        Projector(_tensors(model, mean, scale), loss_after),
        losses,
        (loss_before, loss_after),
        (before, _accuracy(model, inputs[known], goals[known])),
    )


def project(projector: Projector, text: NDArray[np.float32]) -> NDArray[np.float32]:
    """e_ssl (eq. 6) of (n, d_text) `text`: (n, d_colla) float32."""
    import torch

    mean, scale = _moments(text)
    return _project(_fitted_model(projector, mean, scale), torch.from_numpy(_standardised(text, mean, scale)))


def _project(model: torch.nn.Sequential, inputs: torch.Tensor) -> NDArray[np.float32]:
    import torch

    with torch.no_grad():
        vectors: NDArray[np.float32] = model(inputs).numpy()
    return vectors


def _moments(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Mean (d,) of the rows, and the root mean square of what is left."""
    mean: NDArray[np.float64] = vectors.mean(axis=0, dtype=np.float64)
    scale = float(np.sqrt(np.square(vectors - mean).mean()))
    return mean, scale if scale > 0 else 1.0


def _standardised(vectors: NDArray[np.float32], mean: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """Centred, and of mean row norm sqrt(d), so that one learning rate fits every encoder."""
    return np.ascontiguousarray((vectors - mean) / scale, np.float32)


def _model(text: int, hidden: int, collaborative: int, generator: torch.Generator | None = None) -> torch.nn.Sequential:
    """The MLP with weights from `generator` alone: the global random state is neither read nor changed."""
    from torch import nn
    from torch.nn.utils import skip_init

    layers = (skip_init(nn.Linear, text, hidden), skip_init(nn.Linear, hidden, collaborative))
    for layer in layers if generator else ():
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def _fitted_model(projector: Projector, mean: NDArray[np.float64], scale: float) -> torch.nn.Sequential:
    model = _model(*projector.shape)
    _load(model, projector, mean, scale)
    return model


def _load(model: torch.nn.Sequential, projector: Projector, mean: NDArray[np.float64], scale: float) -> None:
    """Take the weights of `projector`, with the first layer restated for inputs of another `mean` and `scale`.

    W (x - m) / s + b is W' (x - m') / s' + b' for W' = W s' / s and b' = b + W (m' - m) / s.
    """
    import torch

    old = projector.tensors
    weight, old_scale = old["hidden.weight"].astype(np.float64), float(old["input.scale"][0])
    restated = {
        "0.weight": weight * (scale / old_scale),
        "0.bias": old["hidden.bias"] + weight @ ((mean - old["input.mean"]) / old_scale),
        "2.weight": old["output.weight"],
        "2.bias": old["output.bias"],
    }
    model.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in restated.items()})


def _tensors(model: torch.nn.Sequential, mean: NDArray[np.float64], scale: float) -> dict[str, NDArray[Any]]:
    names = {"0.weight": "hidden.weight", "0.bias": "hidden.bias", "2.weight": "output.weight", "2.bias": "output.bias"}
    arrays = {names[key]: value.numpy().copy() for key, value in model.state_dict().items()}
    return arrays | {"input.mean": mean, "input.scale": np.array([scale])}


def _mean_loss(model: torch.nn.Sequential, inputs: torch.Tensor, goals: torch.Tensor, temperature: float) -> float:
    """Eq. 5 over batches of neighbouring rows; 0 without rows."""
    import torch

    with torch.no_grad():
        parts = [
            info_nce(model(x), y, temperature).item() * len(x)
            for x, y in zip(torch.split(inputs, ALL_ITEMS), torch.split(goals, ALL_ITEMS), strict=True)
        ]
    return sum(parts) / max(1, len(inputs))


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
