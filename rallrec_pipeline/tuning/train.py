"""Training of the adapter: loss on answers only, best epoch by validation AUC, resumed where it was broken off."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.answers import AnswerTrie
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine, default_tokens
from rallrec_pipeline.language_models.kernels.packed_ends import can_pack
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import TuningSettings
from rallrec_pipeline.tuning import checkpoint
from rallrec_pipeline.tuning.examples import Example
from rallrec_pipeline.tuning.lora import adapter_state, restore_adapter
from rallrec_pipeline.tuning.loss import accumulate_gradient
from rallrec_pipeline.tuning.pairs import PairLoss
from rallrec_pipeline.tuning.result import Epoch, TuningResult

WARMUP = 0.05  # share of the steps; a fresh adapter at the full rate can diverge

Log = Callable[[str], None]


def tune(
    engine: TransformersEngine,
    examples: Sequence[Example],
    trie: AnswerTrie,
    validation_auc: Callable[[], float],
    settings: TuningSettings,
    seed: int,
    progress: Progress | None = None,
    resume_from: Path | None = None,
    log: Log = lambda line: None,
    pair_loss: PairLoss | None = None,
) -> TuningResult:
    """Train the engine's adapter in place and leave it at its best epoch by validation AUC.

    AdamW, linear decay after a short warm-up, gradients accumulated over `batch_size` prompts. Where it stands is
    written to `resume_from` every `checkpoint_every` steps; a run that finds such a file goes on there and ends with
    the same weights as an undisturbed one. The file is left to whoever saves the adapter. With `pair_loss` the rows of
    a user come one after another, so that they meet in a step.
    """
    tuning = _Tuning(engine, examples, trie, settings, seed, pair_loss)
    if resume_from is not None and resume_from.exists():
        tuning.resume(resume_from, log)
    store = resume_from if settings.checkpoint_every else None
    while not tuning.is_over:
        tuning.train_epoch(store, progress)
        tuning.validate(validation_auc)
        if store is not None:
            tuning.save(store)
    restore_adapter(engine, tuning.best)
    return tuning.result()


@dataclass
class _Place:
    """Where tuning stands, next to the tensors; all of it is JSON-able."""

    step: int = 0
    """Finished optimizer steps of the epoch under way."""
    losses: list[float] = field(default_factory=list)
    """Of these steps."""
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    tokens: int = 0
    computed: int = 0
    padding: int = 0
    pairs: int = 0
    resumed_at: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> _Place:
        return cls(**stored | {"epochs": [Epoch(**epoch) for epoch in stored["epochs"]]})


class _Tuning:
    """One tuning under way."""

    def __init__(
        self,
        engine: TransformersEngine,
        examples: Sequence[Example],
        trie: AnswerTrie,
        settings: TuningSettings,
        seed: int,
        pair_loss: PairLoss | None,
    ) -> None:
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.engine, self.examples, self.trie, self.settings = engine, examples, trie, settings
        self.pair_loss = pair_loss
        self.orders = [_drawn_order(examples, rng, pair_loss is not None) for _ in range(settings.epochs)]
        self.steps = math.ceil(len(examples) / settings.batch_size)  # of one epoch
        self.named = {name: p for name, p in engine.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=settings.learning_rate, weight_decay=0.0)
        self.rate = _linear_decay(self.steps * settings.epochs)
        self.packs = can_pack(engine.backbone)
        self.place = _Place()
        self.best: dict[str, torch.Tensor] = {}
        self.examples_now = self.tokens_now = 0
        self._clock = time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or as many as `patience` without a better one."""
        done = len(self.place.epochs)
        return done == self.settings.epochs or (done > 0 and done - self.best_epoch >= self.settings.patience)

    @property
    def best_epoch(self) -> int:
        """The first of the epochs with the highest AUC."""
        return max(self.place.epochs, key=lambda epoch: epoch.validation_auc).epoch

    @property
    def step(self) -> int:
        """Finished optimizer steps, all epochs together."""
        return len(self.place.epochs) * self.steps + self.place.step

    def train_epoch(self, store: Path | None, progress: Progress | None) -> None:
        """The rest of the epoch under way."""
        self.engine.model.train()
        self._pass_time()
        for batch in self._batches():
            self._train_step(batch)
            self.place.epoch_seconds += self._pass_time()
            if store is not None and self.step % self.settings.checkpoint_every == 0:
                self.save(store)
            if progress is not None:
                progress(self.step, self.steps * self.settings.epochs)
        self.engine.model.eval()

    def validate(self, validation_auc: Callable[[], float]) -> None:
        """Close the epoch, and keep its weights if they are the best so far."""
        place, number = self.place, len(self.place.epochs) + 1
        place.epochs.append(Epoch(number, float(np.mean(place.losses)), validation_auc(), place.epoch_seconds))
        place.step, place.losses, place.epoch_seconds = 0, [], 0.0
        if self.best_epoch == number:
            self.best = adapter_state(self.engine)
        self._pass_time()

    def result(self) -> TuningResult:
        """What came of it."""
        place = self.place
        self._pass_time()
        return TuningResult(
            epochs=place.epochs,
            best_epoch=self.best_epoch,
            tokens=place.tokens,
            computed=place.computed,
            padding=round(place.padding / max(1, place.computed), 4),
            pairs=place.pairs,
            seconds=place.seconds,
            stopped_early=len(place.epochs) < self.settings.epochs,
            resumed_at=place.resumed_at,
            examples_now=self.examples_now,
            tokens_now=self.tokens_now,
        )

    def save(self, path: Path) -> None:
        """Write all that the rest depends on to `path`."""
        tensors = {f"adapter.{name}": parameter for name, parameter in self.named.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= checkpoint.flat_optimizer(self.optimizer, list(self.named))
        tensors |= checkpoint.random_state(self.engine.device)
        checkpoint.write_checkpoint(path, asdict(self.place), tensors)

    def resume(self, path: Path, log: Log) -> None:
        """Go on from `path`; where it cannot be used, say so and begin anew."""
        try:
            stored, tensors = checkpoint.read_checkpoint(path)
            self._check_fit(tensors)
            place = _Place.of(stored)
        except (ModelError, TypeError, KeyError) as error:
            log(f"tuning begins anew, the checkpoint cannot be used: {error}")
            return
        restore_adapter(self.engine, _part(tensors, "adapter."))
        if any(name.startswith("optimizer.") for name in tensors):
            checkpoint.restore_optimizer(self.optimizer, list(self.named), tensors)
        checkpoint.restore_random_state(self.engine.device, tensors)
        self.best = _part(tensors, "best.")
        self.place = place
        place.resumed_at.append(self.step)
        log(f"tuning goes on after step {self.step} of {self.steps * self.settings.epochs}")

    def _check_fit(self, tensors: dict[str, torch.Tensor]) -> None:
        """Raise ModelError unless the checkpoint is one of these parameters."""
        shapes = {name: tensor.shape for name, tensor in _part(tensors, "adapter.").items()}
        if shapes != {name: parameter.shape for name, parameter in self.named.items()}:
            raise ModelError("it is of other parameters")

    def _batches(self) -> Iterator[list[Example]]:
        """The batches of the epoch under way that are still to come."""
        order, size = self.orders[len(self.place.epochs)], self.settings.batch_size
        for start in range(self.place.step * size, len(order), size):
            yield [self.examples[i] for i in order[start : start + size]]

    def _train_step(self, batch: Sequence[Example]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.rate(self.step)
        budget = self.settings.tokens_per_batch or default_tokens(self.engine.model, "tune")
        done = accumulate_gradient(self.engine, batch, self.trie, budget, self.packs, self.pair_loss)
        torch.nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(example.tokens) for example in batch)
        self.place.step += 1
        self.place.losses.append(done.loss)
        self.place.tokens += tokens
        self.place.computed += done.computed
        self.place.padding += done.padding
        self.place.pairs += done.pairs
        self.examples_now += len(batch)
        self.tokens_now += tokens

    def _pass_time(self) -> float:
        """Seconds since the last call, which are added to the whole."""
        clock = time.perf_counter()
        passed, self._clock = clock - self._clock, clock
        self.place.seconds += passed
        return passed


def _drawn_order(examples: Sequence[Example], rng: np.random.Generator, users_together: bool) -> NDArray[np.int64]:
    """Places of the examples in random order, or users in random order, each with all of its examples in one."""
    drawn = rng.permutation(len(examples))
    if not users_together:
        return drawn
    _, users = np.unique([example.user for example in examples], return_inverse=True)
    order = np.lexsort((drawn, rng.permutation(users.max(initial=-1) + 1)[users]))
    return order.astype(np.int64)


def _linear_decay(steps: int) -> Callable[[int], float]:
    """Factor of the learning rate in step 0, 1, …"""
    warm = max(1, round(WARMUP * steps))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)), 1.0)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
