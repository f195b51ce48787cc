"""The calibration itself: about five seconds of work with the model's weights, or of matrix products without them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.lake.provenance import now
from rallrec_pipeline.language_models.protocols import Sampling
from rallrec_pipeline.language_models.sizing.architecture import Architecture
from rallrec_pipeline.language_models.sizing.calibration import PRODUCT, WEIGHTS, Calibration, CalibrationKey, Point
from rallrec_pipeline.language_models.sizing.footprint import USES, footprint, type_bytes
from rallrec_pipeline.language_models.sizing.hardware import find_hardware
from rallrec_pipeline.settings import Settings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

LENGTHS = (32, 256)  # tokens of a sequence, of the two shapes of a forward pass
BATCHES = (8, 32)  # sequences that decode together
PASS_SECONDS = 0.4  # a forward pass is given as many tokens as take about this long
PRODUCT_WIDTHS = (2048, 4096)  # at most, of the product that a processor is timed with
PRODUCT_TOKENS = {"cpu": 256, "cuda": 8192}
ENOUGH_SECONDS = 1.5  # a job that takes this long is not repeated
PILOT_TOKENS = 64
PILOT_SECONDS = 2.0  # a model that takes longer for the pilot is not run: five seconds would not do
STEPS = 4
PROMPT_TOKENS = 64
TRAINED_TOKENS = 96

# Shares of the speed of a bare matrix product, for a model that is not run: those of SmolLM2-135M in float32 on one
# thread, measured in processor seconds; with packed weights on two cores 0.63 to 0.68 and 0.34 (bfloat16 0.55 to 0.66
# and 0.24). A step of training took 2.2 to 2.9 forward passes (bfloat16 4.4); the adapter adds to that.
READING_SHARE, WRITING_SHARE, TRAINING_FACTOR = 0.6, 0.35, 3.0
LAUNCH_SECONDS = 1.5e-4  # assumed for the launches of one layer on a GPU, which bound the decoding of a small batch
DISK_BYTES_PER_SECOND = 1e9  # assumed for loading weights


@dataclass(frozen=True)
class Product:
    """What a matrix product and a copy of memory reach here."""

    flops: float
    bytes_per_second: float
    device: str
    dtype: Any


def calibrate(
    key: CalibrationKey, architecture: Architecture, settings: Settings, folder: Path | None, dtype: str
) -> Calibration:
    """Measure the model in `folder`, or only a matrix product of its width where it is None, too big or too slow.

    `dtype` is that of the weights, or `auto`. Raises ModelError when the folder holds no usable model.
    """
    product = measure_product(architecture, dtype)
    pilot = PILOT_TOKENS * architecture.flops_per_token(PILOT_TOKENS / 2) / (product.flops * READING_SHARE)
    if folder is None or pilot > PILOT_SECONDS or not _fits(architecture, settings, product):
        return derive(key, architecture, product, settings.model.load_in_8bit)
    return _measure_weights(key, product, folder, settings)


def derive(key: CalibrationKey, architecture: Architecture, product: Product, eight_bit: bool) -> Calibration:
    """The speeds that follow from the model's sizes and the speed of a matrix product."""

    def reading(length: int) -> float:
        return architecture.flops_per_token(length / 2) / (product.flops * READING_SHARE)

    def writing(batch: int) -> float:
        work = architecture.flops_per_token(PROMPT_TOKENS) + architecture.head_flops
        weights = architecture.parameters * (1 if eight_bit else type_bytes(_name(product.dtype)))
        launches = LAUNCH_SECONDS * architecture.layers if product.device == "cuda" else 0.0
        return weights / product.bytes_per_second + batch * work / (product.flops * WRITING_SHARE) + launches

    weight_bytes = architecture.parameters * type_bytes(_name(product.dtype))
    return Calibration(
        key=key,
        way=PRODUCT,
        dtype=_name(product.dtype),
        reading=tuple((length, reading(length)) for length in LENGTHS),
        writing=tuple((batch, writing(batch)) for batch in BATCHES),
        training=(TRAINED_TOKENS, reading(TRAINED_TOKENS) * TRAINING_FACTOR),
        load_seconds=weight_bytes / DISK_BYTES_PER_SECOND,
        product_flops=product.flops,
        seconds=0.0,
        created_at=now(),
    )


def measure_product(architecture: Architecture, dtype: str) -> Product:
    """Time a product of (tokens, hidden) and (hidden, intermediate) matrices and a copy, some tenths of a second."""
    import torch

    from rallrec_pipeline.language_models.engines.transformers_engine import resolve_dtype
    from rallrec_pipeline.language_models.kernels.packing import packed_if_possible

    device, kind = ("cuda" if torch.cuda.is_available() else "cpu"), resolve_dtype(dtype)
    tokens, hidden, inner = PRODUCT_TOKENS[device], architecture.hidden, architecture.intermediate
    if device == "cpu":
        hidden, inner = min(hidden, PRODUCT_WIDTHS[0]), min(inner, PRODUCT_WIDTHS[1])
    left = torch.ones(tokens, hidden, dtype=kind, device=device)
    plain = torch.nn.Linear(hidden, inner, bias=False, dtype=kind, device=device).requires_grad_(False)
    layer = packed_if_possible(plain)
    with torch.inference_mode():
        seconds = _best(lambda: layer(left), _synchronized(device), 4)
    block = torch.ones((1 << 28) if device == "cuda" else (1 << 25), dtype=torch.uint8, device=device)
    copy = _best(lambda: block.clone(), _synchronized(device), 3)
    return Product(2.0 * tokens * hidden * inner / seconds, 2.0 * block.numel() / copy, device, kind)


def _measure_weights(key: CalibrationKey, product: Product, folder: Path, settings: Settings) -> Calibration:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

    begun = time.perf_counter()
    model = settings.model.model_copy(update={"dtype": _name(product.dtype)})
    engine = TransformersEngine.load(folder, model)
    loaded = time.perf_counter()
    try:
        return _measured(engine, key, product, settings, loaded - begun)
    finally:
        engine.close()


def _measured(
    engine: TransformersEngine, key: CalibrationKey, product: Product, settings: Settings, load_seconds: float
) -> Calibration:
    begun, wait = time.perf_counter(), _synchronized(product.device)
    engine.prepare(head=True)
    _read(engine, 1, PILOT_TOKENS)  # the first pass is the slowest: kernels are chosen, memory is taken
    pilot = _best(lambda: _read(engine, 1, PILOT_TOKENS), wait, 2) / PILOT_TOKENS
    budget = min(max(int(PASS_SECONDS / pilot), PILOT_TOKENS), engine.tokens_per_batch)
    reading = tuple(_reading(engine, min(length, budget), budget, wait) for length in LENGTHS)
    batches = sorted({min(batch, settings.descriptions.batch_size) for batch in BATCHES})
    writing = tuple((batch, _step_seconds(engine, batch, wait)) for batch in batches)
    training = _training(engine, min(TRAINED_TOKENS, budget), wait)
    return Calibration(
        key=key,
        way=WEIGHTS,
        dtype=_name(product.dtype),
        reading=reading,
        writing=writing,
        training=training,
        load_seconds=round(load_seconds, 3),
        product_flops=product.flops,
        seconds=round(time.perf_counter() - begun, 3),
        created_at=now(),
    )


def _reading(engine: TransformersEngine, length: int, budget: int, wait: Callable[[], None]) -> Point:
    rows = max(1, budget // length)
    return length, _best(lambda: _read(engine, rows, length), wait, 2) / (rows * length)


def _read(engine: TransformersEngine, rows: int, length: int) -> None:
    import torch

    with torch.inference_mode():
        engine.backbone(input_ids=_ids(engine, rows, length), use_cache=False)


def _step_seconds(engine: TransformersEngine, batch: int, wait: Callable[[], None]) -> float:
    """One step of decoding: what more steps take longer. All prompts are one prefix, which is computed once."""
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
    """Token ids (rows, length) that differ: equal ones would be equal in every cache."""
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


def _fits(architecture: Architecture, settings: Settings, product: Product) -> bool:
    """Whether the model may be loaded: with what the stages need, it fits beside all that runs."""
    model = settings.model.model_copy(update={"dtype": _name(product.dtype)})
    typed = settings.model_copy(update={"model": model})
    needed = max(footprint(use, architecture, typed, product.device).total for use in USES)
    return needed < find_hardware().free_bytes


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
