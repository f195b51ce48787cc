"""The calibration itself: about five seconds of work with the model's weights, more where the model is large."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.language_models.sizing.architecture import architecture_of, read_config
from rallrec_pipeline.language_models.sizing.calibration import Calibration, CalibrationKey, Point
from rallrec_pipeline.language_models.sizing.footprint import USES, footprint
from rallrec_pipeline.language_models.sizing.hardware import find_hardware
from rallrec_pipeline.settings import Settings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

LENGTHS = (32, 256)  # tokens of a sequence, in the two forward passes that are timed
BATCHES = (8, 32)  # sequences that decode together
PASS_SECONDS = 0.4  # a forward pass is given as many tokens as take about this long
ENOUGH_SECONDS = 1.5  # a job that takes this long is not repeated
PILOT_TOKENS = 64
STEPS = 4
PROMPT_TOKENS = 64
TRAINED_TOKENS = 96
MOST_SECONDS = 60  # beyond, other programs take the cores: such speeds would mislead for as long as they are kept


def calibrate(key: CalibrationKey, settings: Settings, folder: Path) -> Calibration:
    """Run the model in `folder` for some seconds, with the number type of `key`.

    Raises ModelError when the folder holds no usable model, or one that does not fit into the free memory, and when the
    work takes more than `MOST_SECONDS`.
    """
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

    typed = settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": key.dtype})})
    hardware = find_hardware()
    architecture = architecture_of(read_config(folder))
    needed = max(footprint(use, architecture, typed, hardware.kind).total for use in USES)
    if needed > hardware.free_bytes:
        raise ModelError(
            f"{typed.model.name} takes about {needed / 1e9:.1f} GB, {hardware.free_bytes / 1e9:.1f} are free"
        )
    begun = time.perf_counter()
    engine = TransformersEngine.load(folder, typed.model)
    try:
        return _measured(engine, key, settings, time.perf_counter() - begun)
    finally:
        engine.close()


def _measured(engine: TransformersEngine, key: CalibrationKey, settings: Settings, load_seconds: float) -> Calibration:
    begun, wait = time.perf_counter(), _synchronized(engine.device.type)
    engine.prepare(head=True)
    _read(engine, 1, PILOT_TOKENS)  # the first pass is the slowest: kernels are chosen, memory is taken
    pilot = _best(lambda: _read(engine, 1, PILOT_TOKENS), wait, 2) / PILOT_TOKENS
    budget = min(max(int(PASS_SECONDS / pilot), PILOT_TOKENS), engine.tokens_per_batch)
    reading, writing = [], []
    for length in LENGTHS:
        reading.append(_reading(engine, min(length, budget), budget, wait))
        _in_time(begun)
    for batch in sorted({min(batch, settings.descriptions.batch_size) for batch in BATCHES}):
        writing.append((batch, _step_seconds(engine, batch, wait)))
        _in_time(begun)
    training = _training(engine, min(TRAINED_TOKENS, budget), wait)
    _in_time(begun)
    return Calibration(
        key=key,
        reading=tuple(reading),
        writing=tuple(writing),
        training=training,
        load_seconds=round(load_seconds, 3),
        seconds=round(time.perf_counter() - begun, 3),
        created_at=now(),
    )


def _in_time(begun: float) -> None:
    if (taken := time.perf_counter() - begun) > MOST_SECONDS:
        raise ModelError(f"it takes more than {taken:.0f} s here now, and what a busy machine does is not kept")


def _reading(engine: TransformersEngine, length: int, budget: int, wait: Callable[[], None]) -> Point:
    rows = max(1, budget // length)
    return length, _best(lambda: _read(engine, rows, length), wait, 2) / (rows * length)


def _read(engine: TransformersEngine, rows: int, length: int) -> None:
    import torch

    with torch.inference_mode():
        engine.backbone(input_ids=_ids(engine, rows, length), use_cache=False)


def _step_seconds(engine: TransformersEngine, batch: int, wait: Callable[[], None]) -> float:
    """Seconds of a decoding step: what each further one adds. All prompts are alike: their prefix is computed once."""
    from rallrec_pipeline.language_models.kernels.decoding import sample_batch

    prompt = _ids(engine, 1, PROMPT_TOKENS)[0].tolist()

    def write(steps: int) -> None:
        sample_batch(engine.model, [prompt] * batch, Sampling(steps, 0.8, 0.9, seed=0), end_tokens=[-1], fill=0)

    write(1)
    short, long = (_best(lambda: write(steps), wait, 1) for steps in (1, STEPS))  # noqa: B023  # called at once
    return max(long - short, long / STEPS / 2) / (STEPS - 1)


def _training(engine: TransformersEngine, tokens: int, wait: Callable[[], None]) -> Point:
    """Forward and backward pass through frozen weights, as a LoRA step does; its own matrices are narrow."""
    import torch

    for parameter in engine.model.parameters():
        parameter.requires_grad_(False)

    def step() -> None:
        embeddings = engine.backbone.get_input_embeddings()(_ids(engine, 1, tokens)).detach().requires_grad_()
        hidden = engine.backbone(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        hidden.float().sum().backward()

    with torch.enable_grad():
        return tokens, _best(step, wait, 2) / tokens


def _ids(engine: TransformersEngine, rows: int, length: int) -> Any:
    """Token ids (rows, length) that differ, because caches would help more with equal ones than in real work."""
    import torch

    vocabulary = engine.model.config.vocab_size
    return torch.arange(rows * length, device=engine.device).view(rows, length) % vocabulary


def _best(work: Callable[[], object], wait: Callable[[], None], times: int) -> float:
    """Seconds of the quickest of several runs: whatever else the machine does can only make it slower."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        wait()
        took.append(time.perf_counter() - begun)
        if sum(took) > ENOUGH_SECONDS:
            break
    return max(min(took), 1e-9)


def _synchronized(device: str) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if device == "cuda" else lambda: None
