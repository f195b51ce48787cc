"""The loss of an optimizer step and its gradient, added up over the step's forward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.tuning.batches import MicroBatch, micro_batches
from rallrec_pipeline.tuning.examples import Example
from rallrec_pipeline.tuning.packed_attention import packed_attention_in
from rallrec_pipeline.tuning.short_attention import layout_of


@dataclass(frozen=True)
class Accumulated:
    """What an optimizer step's forward and backward passes gave."""

    loss: float
    """Weighted mean over all supervised places."""
    computed: int
    """Places that went through the model."""
    padding: int
    """Those of them that held no token."""


def accumulate_gradient(
    engine: TransformersEngine, examples: Sequence[Example], trie: AnswerTrie, tokens_per_batch: int, pack: bool
) -> Accumulated:
    """Add the gradient of the weighted mean loss over `examples` to that of the parameters.

    It is the gradient of one pass over all of them, however they are cut up. With `pack` nothing is padded, which the
    model must allow (`can_pack`).
    """
    total_weight = sum(target.weight for example in examples for target in example.targets)
    loss, computed, padding = 0.0, 0, 0
    with packed_attention_in(engine.backbone) if pack else nullcontext():
        for batch in micro_batches(examples, tokens_per_batch, pack):
            part = summed_loss(engine, batch, trie) / total_weight
            part.backward()
            loss += part.item()
            computed += batch.ids.size
            padding += batch.padding
    return Accumulated(loss, computed, padding)


def summed_loss(engine: TransformersEngine, batch: MicroBatch, trie: AnswerTrie) -> torch.Tensor:
    """Weighted sum of cross-entropies over the children of each target's choice; a scalar, float32.

    The head is asked for the supervised places and the children's tokens only. A packed batch needs
    `packed_attention_in` around it.
    """
    device = engine.device
    packed: dict[str, Any] = {}
    if batch.positions is not None:
        layout = layout_of(batch.lengths, engine.model.dtype, device)
        packed = {"position_ids": torch.from_numpy(batch.positions).to(device), "lengths": batch.lengths}
        packed["layout"] = layout
    with _adapter_in_bfloat16(engine.model):
        output = engine.backbone(input_ids=torch.from_numpy(batch.ids).to(device), use_cache=False, **packed)
    hidden = output.last_hidden_state.flatten(0, 1)  # (b, t, d) -> (places, d)
    head = engine.model.get_output_embeddings().weight
    loss = torch.zeros((), device=device)
    for index, choice in enumerate(trie.choices):
        picked = [(place, target) for place, target in batch.targets if target.choice == index]
        if not picked:
            continue
        places = torch.tensor([place for place, _ in picked], device=device)
        logits = hidden[places].float() @ head[list(choice.children)].float().T  # (targets, children)
        children = torch.tensor([target.child for _, target in picked], device=device)
        weights = torch.tensor([target.weight for _, target in picked], device=device)
        losses = torch.nn.functional.cross_entropy(logits, children, reduction="none")
        loss = loss + (losses * weights).sum()
    return loss


@contextmanager
def _adapter_in_bfloat16(model: Any) -> Iterator[None]:
    """Within it an adapter over a bfloat16 model computes in bfloat16, too; its weights stay float32."""
    if model.dtype != torch.bfloat16 or getattr(model, "is_loaded_in_8bit", False):
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    with torch.autocast(model.device.type, torch.bfloat16), disable_input_dtype_casting(model):
        yield
