"""RALLRec and RALLRec+ as a Dagster pipeline: retrieval-augmented, LoRA-tuned LLM recommendation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rallrec_pipeline.pipeline.load import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load` comes with Polars, which `import rallrec_pipeline` alone need not wait for."""
    if name == "load":
        from rallrec_pipeline.pipeline.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
