"""Whether memory and context suffice for a model under the settings: estimates, with what to lower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rallrec_pipeline.language_models.engines.choice import EngineChoice
from rallrec_pipeline.language_models.sizing.architecture import Architecture
from rallrec_pipeline.language_models.sizing.footprint import (
    USES,
    Footprint,
    Use,
    batch_that_fits,
    footprint,
    served_footprint,
    weight_bytes,
)
from rallrec_pipeline.language_models.sizing.hardware import Hardware
from rallrec_pipeline.language_models.tokens import TokenizedModel
from rallrec_pipeline.settings import Settings

GIB = 1 << 30
CERTAIN = 0.75
"""An estimate may be a third too high: below this share of it memory is short for certain."""
LEAST_BATCH = 256  # tokens; a smaller budget than that is no advice


@dataclass(frozen=True)
class LongPrompt:
    """The longest prompt of its kind: its text or, where there is none yet, about how many `tokens` it will have.

    `added` tokens follow it; `limit` is the most that a setting allows besides the model's context.
    """

    what: str
    use: Use
    advice: str
    """What to lower when it is too long."""
    text: str | None = None
    tokens: int = 0
    chat: bool = True
    added: int = 0
    limit: int | None = None
    limit_name: str = ""


@dataclass(frozen=True)
class Sizes:
    """What the memory depends on."""

    architecture: Architecture
    settings: Settings
    hardware: Hardware
    choice: EngineChoice | None
    uses: Sequence[Use] = USES
    """The uses that take place here."""


@dataclass
class ModelCheck:
    """What must be mended, what should be known, and the figures behind it; one line each."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def token_counts(prompts: Sequence[LongPrompt], tokenizer: TokenizedModel | None) -> list[int]:
    """Tokens of each prompt with what follows it. Without a tokenizer three characters of a text count as a token."""

    def count(prompt: LongPrompt) -> int:
        if prompt.text is None:
            return prompt.tokens + prompt.added
        if tokenizer is None:
            return len(prompt.text) // 3 + prompt.added
        return len(tokenizer.prompt_tokens(prompt.text, prompt.chat)) + prompt.added

    return [count(prompt) for prompt in prompts]


def context_problems(architecture: Architecture, prompts: Sequence[LongPrompt], counts: Sequence[int]) -> Iterator[str]:
    """Prompts that are longer than the model's context, or than a setting allows."""
    for prompt, count in zip(prompts, counts, strict=True):
        about = "" if prompt.text is not None else "about "
        if count > architecture.context:
            yield (
                f"{prompt.what}: up to {about}{count} tokens, the model's context is {architecture.context}: "
                f"lower {prompt.advice}"
            )
        elif prompt.limit is not None and count > prompt.limit:
            yield (
                f"{prompt.what}: up to {about}{count} tokens, {prompt.limit_name} is {prompt.limit}: "
                f"raise it or lower {prompt.advice}"
            )


def longest_by_use(prompts: Sequence[LongPrompt], counts: Sequence[int]) -> dict[Use, int]:
    """Tokens of the longest prompt of each use, without those that are generated: a footprint adds them itself."""
    longest: dict[Use, int] = {}
    for prompt, count in zip(prompts, counts, strict=True):
        read = count - prompt.added if prompt.use == "generate" else count
        longest[prompt.use] = max(longest.get(prompt.use, 0), read)
    return longest


def memory_problems(sizes: Sizes, longest: Mapping[Use, int]) -> ModelCheck:
    """What does not fit: a line per use, and one if not even the weights fit. Figures are bytes, `longest` tokens."""
    found = ModelCheck()
    hardware, where = sizes.hardware, f"on {sizes.hardware.name}"
    found.figures["free memory"] = hardware.free_bytes
    weights_short = False
    for use in sizes.uses:
        needed, available = _needed(sizes, use, longest.get(use, 0))
        found.figures[f"memory to {use}"] = needed.total
        if needed.program + needed.weights > available:
            weights_short = True
        elif needed.total > available:
            line = f"memory: {use} needs about {_gib(needed.total)}, {_gib(available)} are free {where}: "
            certain = CERTAIN * needed.total > available
            (found.problems if certain else found.warnings).append(line + _advice(sizes, use, available))
    if weights_short:
        found.problems.insert(0, _weights_line(sizes, where))
    if (share := _vllm_share(sizes)) is not None and share > hardware.free_bytes:
        found.problems.append(
            f"memory: vLLM takes {_gib(share)} of each GPU (model.gpu_memory {sizes.settings.model.gpu_memory:g}), "
            f"{_gib(hardware.free_bytes)} are free {where}: end what else runs there, or lower model.gpu_memory"
        )
    return found


def _needed(sizes: Sizes, use: Use, prompt_tokens: int) -> tuple[Footprint, int]:
    """The estimate of a use on the engine that does it, and the bytes that it may take."""
    if use == "tune" or not _is_served(sizes):  # only transformers tunes
        return footprint(use, sizes.architecture, sizes.settings, sizes.hardware.kind, prompt_tokens), _free(sizes)
    served = served_footprint(sizes.architecture, sizes.settings, sizes.hardware.kind, prompt_tokens)
    share = _vllm_share(sizes)
    return served, _free(sizes) if share is None else share


def _free(sizes: Sizes) -> int:
    return sizes.hardware.free_bytes


def _is_served(sizes: Sizes) -> bool:
    return sizes.choice is not None and sizes.choice.name == "vllm"


def _vllm_share(sizes: Sizes) -> int | None:
    """Bytes of each GPU that vLLM takes; None where it does not run on one."""
    if not _is_served(sizes) or sizes.hardware.kind != "cuda":
        return None
    return int(sizes.settings.model.gpu_memory * sizes.hardware.total_bytes)


def _weights_line(sizes: Sizes, where: str) -> str:
    model = sizes.settings.model
    served = _is_served(sizes)
    eight_bit = model.load_in_8bit and not served
    weights = weight_bytes(sizes.architecture, model, eight_bit) // (model.tensor_parallel if served else 1)
    how = "8-bit" if eight_bit else model.dtype
    helps = ["a smaller model"]
    if served:
        helps.insert(0, "more GPUs (model.tensor_parallel)")
    elif not model.load_in_8bit:
        helps.insert(0, "model.load_in_8bit = true")
    return (
        f"memory: the weights alone take {_gib(weights)} ({how}), {_gib(sizes.hardware.free_bytes)} are free {where}: "
        f"take {' or '.join(helps)}"
    )


def _advice(sizes: Sizes, use: Use, available: int) -> str:
    architecture, settings, kind = sizes.architecture, sizes.settings, sizes.hardware.kind
    if use == "generate":
        return "lower descriptions.batch_size"
    most = batch_that_fits(use, architecture, settings, kind, available)
    section = "tuning" if use == "tune" else "model"
    if most >= LEAST_BATCH:
        return f"set {section}.tokens_per_batch to {most // LEAST_BATCH * LEAST_BATCH} at most"
    return "take a smaller model" if settings.model.load_in_8bit else "set model.load_in_8bit, or take a smaller model"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
