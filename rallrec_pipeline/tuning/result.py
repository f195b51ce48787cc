"""What tuning gave: its epochs, and what it cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """What one pass over the examples gave."""

    epoch: int
    loss: float
    validation_auc: float
    seconds: float


@dataclass(frozen=True)
class TuningResult:
    """All epochs, the one whose adapter was kept, and the cost."""

    epochs: list[Epoch]
    best_epoch: int
    tokens: int
    """Of all prompts that were trained on."""
    computed: int
    """Places that went through the model; a prefix that prompts share is computed once."""
    padding: float
    """Share of these places that held no token."""
    pairs: int
    """Pairs of a liked and another row of one user that were learned from, each time that they met in a step."""
    seconds: float
    stopped_early: bool
    """Whether `tuning.patience` ended it before the last epoch."""
    resumed_at: list[int]
    """Optimizer steps after which a broken-off run was taken up again."""
    examples_now: int
    """Examples that this run trained on, once for each epoch; fewer than all where it was resumed."""
    tokens_now: int

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens per second of training, validation not counted in either."""
        return round(self.tokens / max(sum(epoch.seconds for epoch in self.epochs), 1e-9), 1)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form, without what only the present run did."""
        return {name: value for name, value in asdict(self).items() if not name.endswith("_now")}
