"""Fitted weights as artefacts: arrays as safetensors, with a record of the fit in the header.

What is read back is arrays and JSON, never pickle or code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.files import atomic_path, read_json, write_json
from rallrec_pipeline.lake.provenance import stable_hash

HEADER = "fit"  # one key, for safetensors writes several in no fixed order


@dataclass(frozen=True)
class Weights:
    """Arrays by name (float32 or float64), and the `record` of the fit that made them.

    A record is JSON-able and says nothing of runs and times, so that equal fits give equal bytes. Every record has
    `fit` (`fit_id`), `warm_started_from` (the `fit` of the weights it started from, None for a cold start) and `space`
    (the `fit` at the beginning of a chain of warm starts along which the axes keep their meaning and nothing had to be
    forgotten; of a projector: that of the vectors it was fitted to).
    """

    tensors: Mapping[str, NDArray[Any]]
    record: Mapping[str, Any]


def fit_id(*parts: Any) -> str:
    """128-bit hex digest of everything that a fit depends on but its start: arrays and JSON-able values."""
    return stable_hash([_digest({"": part}, {}) if isinstance(part, np.ndarray) else part for part in parts])


def write_weights(path: Path, weights: Weights) -> Path:
    """Store `weights` at `path`, atomically; equal weights give equal bytes."""
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(array) for name, array in weights.tensors.items()}
    content = {"record": dict(weights.record), "digest": _digest(tensors, weights.record)}
    header = json.dumps(content, sort_keys=True, allow_nan=False)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {HEADER: header})
    return path


def read_weights(path: Path) -> Weights | None:
    """The weights at `path`, or None when there are none.

    Raises DataError when the file is damaged: no safetensors, without a record, of other bytes than were written, or
    not finite.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        record, digest = dict(header["record"]), header["digest"]
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"the weights {path} are damaged ({error})") from error
    if digest != _digest(tensors, record) or not all(np.isfinite(array).all() for array in tensors.values()):
        raise DataError(f"the weights {path} are damaged (other values than were written, or not finite)")
    return Weights(tensors, record)


def write_ids(path: Path, fit: str, users: Sequence[str], items: Sequence[str]) -> Path:
    """Store whose rows the weights of `fit` are: users, then items."""
    write_json(path, {"fit": fit, "users": list(users), "items": list(items)})
    return path


def read_ids(path: Path, fit: str) -> tuple[list[str], list[str]]:
    """Users and items whose rows the weights of `fit` are. Raises DataError when they are absent or of another fit."""
    found = read_json(path)
    users, items = (_texts(path, found, kind) for kind in ("users", "items"))
    if found.get("fit") != fit:
        raise DataError(f"the ids in {path} are not those of the weights beside it")
    return users, items


def _texts(path: Path, found: Any, name: str) -> list[str]:
    texts = found.get(name) if isinstance(found, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{path} is damaged: it must hold lists of user and item ids")
    return texts


def _digest(tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> str:
    total = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        total.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        total.update(array.tobytes())
    return total.hexdigest()
