"""Training of the adapter: loss on answers only, best epoch by validation AUC."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.language_models.batching import padded, token_batches
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.language_models.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning.examples import Example
from rallrec_pipeline.tuning.lora import adapter_state, restore_adapter

WARMUP = 0.05  # share of the steps; a fresh adapter at the full rate can diverge


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
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens per second of training, validation not counted in either."""
        return round(self.tokens / max(sum(epoch.seconds for epoch in self.epochs), 1e-9), 1)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def tune(
    engine: TransformersEngine,
    examples: Sequence[Example],
    trie: AnswerTrie,
    validation_auc: Callable[[], float],
    settings: TuningSettings,
    seed: int,
    progress: Progress | None = None,
) -> TuningResult:
    """Train the engine's adapter in place and leave it at its best epoch by validation AUC.

    AdamW, linear decay after a short warm-up, gradients accumulated over `batch_size` prompts.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    parameters = [p for p in engine.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    per_epoch = math.ceil(len(examples) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear_decay(per_epoch * settings.epochs))
    epochs: list[Epoch] = []
    best: tuple[float, dict[str, Any]] | None = None
    start = time.perf_counter()
    for epoch in range(1, settings.epochs + 1):
        losses, begun = [], time.perf_counter()
        engine.model.train()
        for step, batch in enumerate(_batches(examples, settings.batch_size, rng)):
            losses.append(_step(engine, batch, trie))
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if progress is not None:
                progress((epoch - 1) * per_epoch + step + 1, per_epoch * settings.epochs)
        seconds = time.perf_counter() - begun
        engine.model.eval()
        auc = validation_auc()
        epochs.append(Epoch(epoch, float(np.mean(losses)), auc, seconds))
        if best is None or auc > best[0]:
            best = (auc, adapter_state(engine))
    assert best is not None  # settings demand at least one epoch
    restore_adapter(engine, best[1])
    tokens = settings.epochs * sum(len(example.tokens) for example in examples)
    best_epoch = max(epochs, key=lambda e: e.validation_auc).epoch
    return TuningResult(epochs, best_epoch, tokens, time.perf_counter() - start)


def _linear_decay(steps: int) -> Callable[[int], float]:
    warm = max(1, round(WARMUP * steps))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)), 1.0)


def _batches(examples: Sequence[Example], size: int, rng: np.random.Generator) -> Iterator[list[Example]]:
    order = rng.permutation(len(examples))
    for start in range(0, len(order), size):
        yield [examples[i] for i in order[start : start + size]]


def _step(engine: TransformersEngine, batch: Sequence[Example], trie: AnswerTrie) -> float:
    """Accumulate the gradient of one optimizer step; returns the weighted mean loss."""
    total_weight = sum(target.weight for example in batch for target in example.targets)
    total = 0.0
    for rows in token_batches([len(e.tokens) for e in batch], engine.tokens_per_batch):
        loss = _summed_loss(engine, [batch[r] for r in rows], trie) / total_weight
        loss.backward()
        total += loss.item()
    return total


def _summed_loss(engine: TransformersEngine, examples: Sequence[Example], trie: AnswerTrie) -> torch.Tensor:
    """Weighted sum of cross-entropies over the children of each target's choice."""
    ids = torch.from_numpy(padded([e.tokens for e in examples], 0)).to(engine.device)
    hidden = engine.backbone(input_ids=ids, use_cache=False).last_hidden_state  # (b, t, d)
    head = engine.model.get_output_embeddings().weight
    loss = torch.zeros((), device=engine.device)
    for index, choice in enumerate(trie.choices):
        picked = [(row, t) for row, e in enumerate(examples) for t in e.targets if t.choice == index]
        if not picked:
            continue
        rows = torch.tensor([row for row, _ in picked], device=engine.device)
        positions = torch.tensor([t.position for _, t in picked], device=engine.device)
        states = hidden[rows, positions].float()  # (targets, d)
        logits = states @ head[list(choice.children)].float().T  # (targets, children)
        children = torch.tensor([t.child for _, t in picked], device=engine.device)
        weights = torch.tensor([t.weight for _, t in picked], device=engine.device)
        losses = torch.nn.functional.cross_entropy(logits, children, reduction="none")
        loss = loss + (losses * weights).sum()
    return loss
