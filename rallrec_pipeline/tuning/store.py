"""Replaced adapters, kept by the key of what they were tuned on: a change that is reverted costs no tuning."""

from __future__ import annotations

import shutil
from pathlib import Path

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, read_json
from rallrec_pipeline.tuning.lora import PROVENANCE, WEIGHTS, adapter_version

CHECKPOINT = "training.safetensors"
"""File in the folder of an adapter that is not finished, where its tuning goes on; the finished adapter replaces it."""


def adapter_key(folder: Path) -> str | None:
    """Key of what the adapter in `folder` was tuned on; None where there is none that is whole and unchanged."""
    if not (folder / WEIGHTS).exists():
        return None
    try:
        provenance = read_json(folder / PROVENANCE)
        return str(provenance["key"]) if provenance["version"] == adapter_version(folder) else None
    except (DataError, KeyError, TypeError):
        return None


def set_aside(folder: Path, store: Path) -> None:
    """Copy the adapter in `folder`, if there is one, to `store/<key>`."""
    key = adapter_key(folder)
    if key is not None and adapter_key(store / key) is None:
        _copy(folder, store / key)


def bring_back(key: str, folder: Path, store: Path) -> bool:
    """Make `folder` hold the stored adapter `key`, setting aside the one that is there; False where none is stored."""
    if adapter_key(store / key) != key:
        return False
    set_aside(folder, store)
    _copy(store / key, folder)
    return True


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copytree(source, temporary)
