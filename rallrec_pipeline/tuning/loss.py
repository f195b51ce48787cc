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
from rallrec_pipeline.tuning.pairs import PairLoss, user_pairs
from rallrec_pipeline.tuning.short_attention import layout_of


@dataclass(frozen=True)
class Accumulated:
    """What an optimizer step's forward and backward passes gave."""

    loss: float
    """Weighted mean over all supervised places, and what pairs of rows add."""
    computed: int
    """Places that went through the model."""
    padding: int
    """Those of them that held no token."""
    pairs: int = 0
    """Pairs of a liked and another row of one user."""


def accumulate_gradient(
    engine: TransformersEngine,
    examples: Sequence[Example],
    trie: AnswerTrie,
    tokens_per_batch: int,
    pack: bool,
    pair_loss: PairLoss | None = None,
) -> Accumulated:
    """Add the gradient of the weighted mean loss over `examples`, and of `pair_loss`, to that of the parameters.

    It is the gradient of one pass over all of them, however they are cut up. With `pack` nothing is padded, which the
    model must allow (`can_pack`).
    """
    total_weight = sum(target.weight for example in examples for target in example.targets)
    head = engine.model.get_output_embeddings().weight
    with packed_attention_in(engine.backbone) if pack else nullcontext():
        batches = list(micro_batches(examples, tokens_per_batch, pack))
        pull = _pull_of_pairs(engine, batches, pair_loss) if pair_loss is not None else None
        loss, place = pull.loss if pull else 0.0, 0
        for batch in batches:
            hidden = _hidden_states(engine, batch)
            part = _summed_loss(hidden, head, batch, trie) / total_weight
            loss += part.item()
            if pull and pair_loss is not None:
                own = pull.gradient[place : place + len(batch.answers)]
                part = part + (own * pair_loss.logits(hidden[batch.answers], head)).sum()
            part.backward()
            place += len(batch.answers)
    passes = 2 if pull else 1
    computed, padding = (sum(values) for values in zip(*((b.ids.size, b.padding) for b in batches), strict=True))
    return Accumulated(loss, passes * computed, passes * padding, pull.pairs if pull else 0)


@dataclass(frozen=True)
class _Pull:
    """What the pairs of a step add: their loss, its gradient (n,) by the examples' logits, and their number."""

    loss: float
    gradient: torch.Tensor
    pairs: int


def _pull_of_pairs(engine: TransformersEngine, batches: Sequence[MicroBatch], pair_loss: PairLoss) -> _Pull | None:
    """The pull on the examples in the order of `batches`, by a pass without a gradient; None where there are no pairs.

    Both rows of a pair may lie in different batches, so the logits of all are needed before the first backward pass.
    The draws of dropout are those that the passes with a gradient will make.
    """
    pairs = user_pairs([example for batch in batches for example in batch.examples]).to(engine.device)
    if not len(pairs):
        return None
    head = engine.model.get_output_embeddings().weight
    with torch.no_grad(), torch.random.fork_rng([engine.device] if engine.device.type == "cuda" else []):
        logits = [pair_loss.logits(_hidden_states(engine, batch)[batch.answers], head) for batch in batches]
    loss, gradient = pair_loss.gradient(torch.cat(logits), pairs)
    return _Pull(loss, gradient, len(pairs))


def _hidden_states(engine: TransformersEngine, batch: MicroBatch) -> torch.Tensor:
    """Last hidden states (places, d). A packed batch needs `packed_attention_in` around it."""
    device = engine.device
    packed: dict[str, Any] = {}
    if batch.positions is not None:
        layout = layout_of(batch.lengths, engine.model.dtype, device)
        packed = {"position_ids": torch.from_numpy(batch.positions).to(device), "lengths": batch.lengths}
        packed["layout"] = layout
    with _adapter_in_bfloat16(engine.model):
        output = engine.backbone(input_ids=torch.from_numpy(batch.ids).to(device), use_cache=False, **packed)
    hidden: torch.Tensor = output.last_hidden_state.flatten(0, 1)  # (b, t, d) -> (places, d)
    return hidden


def _summed_loss(hidden: torch.Tensor, head: torch.Tensor, batch: MicroBatch, trie: AnswerTrie) -> torch.Tensor:
    """Weighted sum of cross-entropies over the children of each target's choice; a scalar, float32.

    `hidden` is (places, d), `head` (vocabulary, d), which is asked for the supervised places and the children's tokens
    only.
    """
    device = hidden.device
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
