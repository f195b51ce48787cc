"""Finished adapters: found by the key of what they were tuned on, and never mixed up with half or edited ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.tuning.lora import PROVENANCE, WEIGHTS, adapter_version
from rallrec_pipeline.tuning.store import CHECKPOINT, adapter_home, adapter_key


def adapter(folder: Path, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(f"weights of {key}", encoding="utf-8")
    write_json(folder / PROVENANCE, {"key": key, "version": adapter_version(folder)})


def test_each_key_has_a_home_of_its_own(tmp_path: Path) -> None:
    homes = [adapter_home(tmp_path, "slice", "recent", key) for key in ("a", "b")]
    for home in homes:
        adapter(home, home.name)
    assert [adapter_key(home) for home in homes] == ["a", "b"]
    assert adapter_key(adapter_home(tmp_path, "slice", "recent", "c")) is None
    assert adapter_key(adapter_home(tmp_path, "slice", "rallrec", "a")) is None


@pytest.mark.parametrize("lost", [WEIGHTS, PROVENANCE])
def test_half_an_adapter_is_none(tmp_path: Path, lost: str) -> None:
    adapter(tmp_path, "a")
    (tmp_path / lost).unlink()
    assert adapter_key(tmp_path) is None


def test_edited_weights_are_no_adapter(tmp_path: Path) -> None:
    adapter(tmp_path, "a")
    (tmp_path / WEIGHTS).write_text("other weights", encoding="utf-8")
    assert adapter_key(tmp_path) is None


@pytest.mark.parametrize("damage", ["", "[]", "null", '{"key": "a"}', "{"])
def test_a_damaged_provenance_is_no_adapter(tmp_path: Path, damage: str) -> None:
    adapter(tmp_path, "a")
    (tmp_path / PROVENANCE).write_text(damage, encoding="utf-8")
    assert adapter_key(tmp_path) is None


def test_a_checkpoint_alone_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_text("half", encoding="utf-8")
    assert adapter_key(tmp_path) is None
