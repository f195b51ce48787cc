"""Finished adapters by the key of what they were tuned on: a change that is reverted costs no tuning."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.sealed import read_sealed
from rallrec_pipeline.tuning.lora import PROVENANCE, WEIGHTS, adapter_version

CHECKPOINT = "training.safetensors"
"""File in the folder of an adapter that is not finished, where its tuning goes on; the finished adapter replaces it."""


def adapter_home(lake: Path, dataset: str, adapter: str, key: str) -> Path:
    """Where the adapter that was tuned on `key` lies, whichever results share it."""
    return lake / "cache" / "adapters" / dataset / adapter / key


def adapter_key(folder: Path) -> str | None:
    """Key of what the adapter in `folder` was tuned on; None where there is none that is whole and unchanged."""
    if not (folder / WEIGHTS).exists():
        return None
    try:
        provenance = read_sealed(folder / PROVENANCE)
        return str(provenance["key"]) if provenance["version"] == adapter_version(folder) else None
    except (DataError, KeyError, TypeError):
        return None
