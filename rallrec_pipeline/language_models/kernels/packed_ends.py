"""What follows one beginning, packed into one row behind it: the keys of the beginning are neither copied nor padded.

Prompts of one user that differ in the target alone share their history. Read as rows of a batch, each of them would
take a copy of the history's keys, so that few fit into a pass. In one row they share them, and a mask keeps them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from rallrec_pipeline.language_models.kernels.sections import Section

PACKED_TOKENS = 256  # of a row: more of them look in vain at more of the others (docs/experiments.md)
FILLED_TOKENS = 64  # of a group, on average: of many small groups each would be a pass of its own
# Decoders known to see across tokens in their attention alone, and there to obey a mask.
PLAIN_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True)
class PackedRow:
    """Ends in one row of N tokens behind `shared` others.

    `ids` and `positions` are (1, N); `mask` (1, 1, N, shared + N) is true where a token is seen. `places` (b, longest)
    says where each end's tokens stand in the row; behind an end it points at the end's last token.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    places: torch.Tensor


def can_pack(backbone: Any) -> bool:
    """Whether the decoder's attention is plain causal attention over all earlier tokens."""
    config = backbone.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None)
    return config.model_type in PLAIN_DECODERS and kinds == {"full_attention"} and not window


def pays(section: Section, lengths: Sequence[int]) -> bool:
    """Whether ends of these `lengths` are better packed: what they share is longer, and a group fills a pass."""
    fills = len(section.groups) == 1 or sum(lengths) >= FILLED_TOKENS * len(section.groups)
    return fills and len(lengths) > 1 and section.shared > max(lengths)


def packs(lengths: Sequence[int], most: int, workers: int = 1) -> list[range]:
    """Runs of ends, in their order, of at most `most` tokens each, or of one end.

    Where these are fewer than `workers`, the longest run is as short as it can be with one run for each worker.
    """
    runs = _filled(lengths, most)
    if not 0 < len(runs) < workers:
        return runs
    cuts = (_filled(lengths, few) for few in range(-(-sum(lengths) // workers), most + 1))
    return next((cut for cut in cuts if len(cut) <= workers), runs)


def _filled(lengths: Sequence[int], most: int) -> list[range]:
    """As `packs`, each run as full as it may be."""
    starts, tokens = [0], 0
    for place, length in enumerate(lengths):
        if place > starts[-1] and tokens + length > most:
            starts.append(place)
            tokens = 0
        tokens += length
    return [range(start, stop) for start, stop in pairwise([*starts, len(lengths)]) if stop > start]


def packed_row(ends: Sequence[Sequence[int]], shared: int, device: torch.device) -> PackedRow:
    """`ends` (b) end to end; each sees the `shared` tokens and what is before in itself."""
    lengths = torch.tensor([len(end) for end in ends])
    starts = lengths.cumsum(0) - lengths
    end_of = torch.repeat_interleave(torch.arange(len(ends)), lengths)  # (N,)
    total = len(end_of)
    own = (end_of[:, None] == end_of) & torch.ones(total, total, dtype=torch.bool).tril()
    mask = torch.cat([torch.ones(total, shared, dtype=torch.bool), own], 1)
    within = torch.minimum(torch.arange(int(lengths.max())), lengths[:, None] - 1)  # (b, longest)
    positions = shared + torch.arange(total) - starts[end_of]
    ids = torch.tensor([token for end in ends for token in end])
    made = PackedRow(ids[None], positions[None], mask[None, None], starts[:, None] + within)
    return PackedRow(*(part.to(device) for part in vars(made).values()))
