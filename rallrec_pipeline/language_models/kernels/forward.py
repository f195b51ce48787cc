"""Hidden states of many token sequences: batches by token budget, common beginnings computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache

from rallrec_pipeline.language_models.kernels.batching import padded, token_batches
from rallrec_pipeline.language_models.kernels.packed_ends import PACKED_TOKENS, can_pack, packed_row, packs, pays
from rallrec_pipeline.language_models.kernels.prefix import compute_prefix, expand_prefix
from rallrec_pipeline.language_models.kernels.sections import Plan, Section
from rallrec_pipeline.language_models.kernels.workers import Workers
from rallrec_pipeline.language_models.protocols import Usage


@dataclass(frozen=True)
class Batch:
    """What came out of one pass."""

    rows: NDArray[np.int64]
    """Numbers of its sequences, (b,)."""
    shared: int
    """Tokens of each sequence that `hidden` leaves out."""
    hidden: torch.Tensor
    """Last hidden states, (b, t, d), padded on the right."""


@dataclass(frozen=True)
class Decoder:
    """A causal decoder without its output head, and how it is fed."""

    backbone: Any
    tokens_per_batch: int
    fill: int
    usage: Usage
    """Counts the tokens that go through, without padding."""
    workers: Workers

    def hidden_states(self, sequences: Sequence[Sequence[int]], plan: Plan) -> Iterator[Batch]:
        """All sequences, as `plan` groups them. Call it, and iterate over it, without gradients."""
        known = self._beginnings([sequences[0][: plan.common]], None) if plan.common else None
        for section in plan.sections:
            beginnings = known
            if section.shared > plan.common:
                first = [sequences[group[0]] for group in section.groups]
                beginnings = self._beginnings([tokens[: section.shared] for tokens in first], known)
            yield from self._behind(beginnings, sequences, section)

    def _beginnings(self, beginnings: Sequence[Sequence[int]], known: Cache | None) -> Cache:
        """Keys and values of `beginnings`; `known` holds those that all of them share."""
        there = known.get_seq_length() if known is not None else 0
        self.usage.prompt_tokens += sum(len(tokens) - there for tokens in beginnings)
        return compute_prefix(self.backbone, beginnings, known)

    def _behind(
        self, beginnings: Cache | None, sequences: Sequence[Sequence[int]], section: Section
    ) -> Iterator[Batch]:
        """Batches of what follows the beginnings; each group has one of them.

        Padding is on the right and attention is causal, so no padding mask is needed: no token sees a pad.
        """
        rows, group_of = np.array(section.rows), np.array(section.group_of_rows)
        rests = [sequences[row][section.shared :] for row in rows]
        device = next(self.backbone.parameters()).device
        if beginnings is not None and pays(section, [len(rest) for rest in rests]) and can_pack(self.backbone):
            yield from self._packed(beginnings, section, rests, device)
            return
        batches = list(token_batches([len(rest) for rest in rests], self.tokens_per_batch, section.shared))

        def compute(picked: NDArray[np.int64]) -> Batch:
            ids = torch.from_numpy(padded([rests[r] for r in picked], self.fill)).to(device)
            cache = None
            if beginnings is not None:
                of_rows = group_of[picked].tolist() if len(section.groups) > 1 else None
                cache = expand_prefix(beginnings, len(picked), section.shared + ids.shape[1], of_rows)
            hidden = self.backbone(input_ids=ids, past_key_values=cache, use_cache=cache is not None).last_hidden_state
            return Batch(rows[picked], section.shared, hidden)

        for picked, batch in zip(batches, self.workers.map(compute, batches), strict=True):
            self.usage.prompt_tokens += sum(len(rests[r]) for r in picked)
            yield batch

    def _packed(
        self, beginnings: Cache, section: Section, rests: Sequence[Sequence[int]], device: torch.device
    ) -> Iterator[Batch]:
        """As `_behind`, ends packed into rows behind their group's beginning; `rests` are in the groups' order."""
        rows = np.array(section.rows)
        most, at_once = min(PACKED_TOKENS, self.tokens_per_batch), self.workers.count
        parts = list(_packed_parts(section, rests, most, at_once))

        def compute(part: tuple[int, range]) -> Batch:
            number, places = part
            row = packed_row([rests[place] for place in places], section.shared, device)
            capacity = section.shared + row.ids.shape[1]
            cache = expand_prefix(beginnings, 1, capacity, [number] if len(section.groups) > 1 else None)
            found = self.backbone(
                input_ids=row.ids,
                attention_mask=row.mask,
                position_ids=row.positions,
                past_key_values=cache,
                use_cache=True,
            )
            return Batch(rows[places.start : places.stop], section.shared, found.last_hidden_state[0][row.places])

        for (_, places), batch in zip(parts, self.workers.map(compute, parts), strict=True):
            self.usage.prompt_tokens += sum(len(rests[place]) for place in places)
            yield batch


def _packed_parts(
    section: Section, rests: Sequence[Sequence[int]], most: int, workers: int
) -> Iterator[tuple[int, range]]:
    """(group, places in `rests`) of each row of packed ends; `rests` are in the order of the groups."""
    first, each = 0, -(-workers // len(section.groups))
    for number, group in enumerate(section.groups):
        for part in packs([len(end) for end in rests[first : first + len(group)]], most, each):
            yield number, range(first + part.start, first + part.stop)
        first += len(group)
