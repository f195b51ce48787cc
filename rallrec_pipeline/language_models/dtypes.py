"""The number type of a model: the one place that says what `auto` is."""

from __future__ import annotations

import functools
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.settings import ModelSettings

if TYPE_CHECKING:
    import torch

CPUINFO = Path("/proc/cpuinfo")
FAST = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
"""Flags of x86 processors that multiply bfloat16 at least as fast as float32, as Linux names them."""
MARGIN = 1.2
"""How much faster bfloat16 must be where it is timed: a busy core must not decide."""
ROUNDS = 8


class NumberType(NamedTuple):
    """What `auto` is on this machine, and why."""

    name: str
    reason: str


def fetched_dtype(model: ModelSettings, record: Record | None) -> str:
    """The setting; `auto` is what it was when the model of `record` was fetched, and stays `auto` where none was.

    Decided again on another machine, it might mix two types in one lake.
    """
    return str(record.metadata.get("auto_dtype", "auto")) if record and model.dtype == "auto" else model.dtype


def dtype_told(model: ModelSettings, record: Record | None) -> str:
    """The number type of a model in use, and why: `bfloat16 (auto: the processor has AMX)`."""
    if model.dtype != "auto":
        return f"{model.dtype} (model.dtype)"
    found, here = fetched_dtype(model, record), auto_dtype()
    if found in ("auto", here.name):
        return f"{here.name} (auto: {here.reason})"
    return f"{found} (auto, as it was when the model was fetched)"


def resolve_dtype(name: str) -> str:
    """`float32`, `bfloat16` or `float16`, also of `auto`."""
    return auto_dtype().name if name == "auto" else name


@functools.cache
def auto_dtype() -> NumberType:
    """What `auto` is here: by the instructions of the processor, so that every process finds the same.

    On a CPU without bfloat16 instructions, bfloat16 was measured at a fifth of the speed of float32. Only where the
    instructions are not known, or say nothing of the speed, both types are timed.
    """
    import torch

    if torch.cuda.is_available():
        has_bfloat16 = torch.cuda.is_bf16_supported()
        return NumberType(
            "bfloat16" if has_bfloat16 else "float16", f"the GPU has {'' if has_bfloat16 else 'no '}bfloat16"
        )
    try:
        found = by_instructions(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # not Linux
        found = None
    return found or _timed()


def by_instructions(cpuinfo: str) -> NumberType | None:
    """The number type that the text of `/proc/cpuinfo` decides; None where it leaves the speed open."""
    x86 = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    if x86:
        names = [name for flag, name in FAST.items() if flag in x86.group(1).split()]
        if names:
            return NumberType("bfloat16", f"the processor has {names[0]}")
        return NumberType("float32", "the processor has no instructions for bfloat16")
    arm = re.search(r"^Features\s*:(.*)$", cpuinfo, re.MULTILINE)
    if arm and "bf16" not in arm.group(1).split():
        return NumberType("float32", "the processor has no instructions for bfloat16")
    return None


def _timed() -> NumberType:
    """By the fastest of some products of each type, taken in turn, so that both meet the same load."""
    seconds = [(_product_seconds("float32"), _product_seconds("bfloat16")) for _ in range(ROUNDS)]
    slow, fast = (min(column) for column in zip(*seconds, strict=True))
    name = "bfloat16" if slow > MARGIN * fast else "float32"
    return NumberType(name, f"timed: bfloat16 has {slow / fast:.1f} times the speed of float32")


def _product_seconds(name: str) -> float:
    import torch

    product, inputs = _product(name), torch.ones(256, 576, dtype=getattr(torch, name))
    start = time.perf_counter()
    product(inputs)
    return time.perf_counter() - start


@functools.cache
def _product(name: str) -> torch.nn.Module:
    import torch

    from rallrec_pipeline.language_models.kernels.packing import packed_if_possible

    layer = torch.nn.Linear(576, 1536, bias=False, dtype=getattr(torch, name)).requires_grad_(False)
    return packed_if_possible(layer)
