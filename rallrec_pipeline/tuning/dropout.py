"""Dropout whose mask is drawn several elements at a time.

On a CPU torch draws a mask element by element, which was 7% of a LoRA step (SmolLM2-135M, 2 cores); here four elements
share one draw of 64 bits.
"""

from __future__ import annotations

import torch

BITS = 16  # of randomness for an element: probabilities are multiples of 1/65,536
_ELEMENTS, _LEVELS = 64 // BITS, 2**BITS


class FastDropout(torch.nn.Module):
    """As `torch.nn.Dropout` on a CPU, with `p` rounded to a multiple of 1/65,536.

    It draws from torch's random numbers, so their state is all that a checkpoint needs.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = min(round(p * _LEVELS), _LEVELS - 1)
        """How many of the 65,536 draws drop an element."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` of any shape with elements dropped and the others scaled up; `x` itself when not training."""
        if not self.training or not self.dropped:
            return x
        draws = torch.empty(-(-x.numel() // _ELEMENTS), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.int16)[: x.numel()] >= self.dropped - _LEVELS // 2
        return x * kept.view(x.shape).to(x.dtype).div_(1 - self.dropped / _LEVELS)


def use_fast_dropout(model: torch.nn.Module) -> None:
    """Put `FastDropout` in the place of the dropout of each LoRA layer of a model that is on the CPU."""
    for module in model.modules():
        layers = getattr(module, "lora_dropout", None)
        if isinstance(layers, torch.nn.ModuleDict):
            for name, layer in layers.items():
                if isinstance(layer, torch.nn.Dropout):
                    layers[name] = FastDropout(layer.p)
