"""Fitted weights on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from rallrec_pipeline.embeddings.weights import write_weights


def test_what_is_read_is_what_was_written_and_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"weights": rng.normal(size=(4, 3)).astype(np.float32).T, "input.mean": rng.normal(size=3)}
    first = write_weights(tmp_path / "first", arrays)
    second = write_weights(tmp_path / "second", dict(reversed(arrays.items())))
    found = load_file(first)
    assert set(found) == set(arrays) and all((found[name] == arrays[name]).all() for name in arrays)
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}
