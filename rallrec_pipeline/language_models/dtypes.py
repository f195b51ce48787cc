"""The number type of a model: the one place that says what `auto` is."""

from __future__ import annotations

import functools
import time

from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.settings import ModelSettings


def fetched_dtype(model: ModelSettings, record: Record | None) -> str:
    """The setting; `auto` is what it was when the model of `record` was fetched, and stays `auto` where none was.

    Timed again, it might mix two types in one lake.
    """
    return str(record.metadata.get("auto_dtype", "auto")) if record and model.dtype == "auto" else model.dtype


@functools.cache
def resolve_dtype(name: str) -> str:
    """`float32`, `bfloat16` or `float16`; `auto` is bfloat16 only where its matrix product is the faster one.

    On a CPU without bfloat16 instructions, bfloat16 was measured at a fifth of the speed of float32.
    """
    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return min(("float32", "bfloat16"), key=_product_seconds)


def _product_seconds(name: str) -> float:
    import torch

    from rallrec_pipeline.language_models.kernels.packing import packed_if_possible

    dtype = getattr(torch, name)
    layer = torch.nn.Linear(576, 1536, bias=False, dtype=dtype).requires_grad_(False)
    product, inputs = packed_if_possible(layer), torch.ones(256, 576, dtype=dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product(inputs)
        times.append(time.perf_counter() - start)
    return min(times)
