"""About how much memory a stage takes, from the model's sizes, the settings and the sizes of tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rallrec_pipeline.language_models.sizing.architecture import Architecture
from rallrec_pipeline.language_models.sizing.footprint import Use, footprint, served_footprint
from rallrec_pipeline.language_models.sizing.hardware import machine_kind
from rallrec_pipeline.pipeline.stage import Stage
from rallrec_pipeline.pipeline.status.pending import Pending
from rallrec_pipeline.pipeline.status.speeds import Speeds

USES: dict[str, Use] = {
    "item_descriptions": "generate",
    "title_embeddings": "encode",
    "description_embeddings": "encode",
    "lora_adapter": "tune",
    "predictions": "score",
    "new_item_descriptions": "generate",
    "new_item_embeddings": "encode",
    "recommendations": "score",
    "reasoning_traces": "generate",
    "reasoned_predictions": "score",
}
PROGRAM_BYTES = 300 << 20  # Python, Polars and Dagster
TORCH_BYTES = 300 << 20  # torch on top of it
UNPACKED = 6  # bytes that a table, its copies and what is made of it take in memory, for a byte of compressed Parquet
VECTOR_COPIES = 3  # vectors of an encoder: as bytes, as an array, in the table that is written


def llm_memory(stage: str, pending: Pending, speeds: Speeds) -> int | None:
    """Bytes that a stage with the LLM takes, on a GPU of the card's memory; None where the model is unknown."""
    architecture, settings, kind = speeds.architecture(), speeds.settings, machine_kind()
    if architecture is None:
        return None
    length = pending.length or pending.tokens
    # What `auto` is on most cards; on a processor it counts as float32.
    dtype = "bfloat16" if (speeds.dtype(), kind) == ("auto", "cuda") else speeds.dtype()
    typed = settings.model_copy(update={"model": settings.model.model_copy(update={"dtype": dtype})})
    if settings.model.engine == "vllm" and stage != "lora_adapter":
        return served_footprint(architecture, typed, kind, length).total
    tables = _vectors(stage, pending, architecture) if kind == "cpu" else 0
    return footprint(USES[stage], architecture, typed, kind, length).total + tables


def table_memory(stage: Stage, files: Sequence[Path]) -> int:
    """Bytes that a stage without the LLM takes, if `files` are what it reads."""
    torch = TORCH_BYTES if stage.group == "embeddings" else 0
    return PROGRAM_BYTES + torch + UNPACKED * sum(map(_size, files))


def _vectors(stage: str, pending: Pending, architecture: Architecture) -> int:
    """Bytes of the vectors that an encoder has made: all of them are held before they are written."""
    if USES[stage] != "encode":
        return 0
    return VECTOR_COPIES * pending.at_most * architecture.hidden * 4


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.parquet"))
    return path.stat().st_size if path.suffix == ".parquet" and path.exists() else 0
