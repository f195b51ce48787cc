"""Replaced adapters: found by key, brought back whole, and never mixed up with half ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.tuning import store as module
from rallrec_pipeline.tuning.lora import PROVENANCE, WEIGHTS, adapter_version
from rallrec_pipeline.tuning.store import adapter_key, bring_back, set_aside


def adapter(folder: Path, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(f"weights of {key}", encoding="utf-8")
    write_json(folder / PROVENANCE, {"key": key, "version": adapter_version(folder)})


def test_a_replaced_adapter_comes_back_and_the_other_one_is_kept(tmp_path: Path) -> None:
    folder, store = tmp_path / "current", tmp_path / "store"
    adapter(folder, "a")
    set_aside(folder, store)
    adapter(folder, "b")
    assert bring_back("a", folder, store)
    assert adapter_key(folder) == "a" and (folder / WEIGHTS).read_text(encoding="utf-8") == "weights of a"
    assert bring_back("b", folder, store) and adapter_key(folder) == "b"
    assert not bring_back("c", folder, store) and adapter_key(folder) == "b"


@pytest.mark.parametrize("lost", [WEIGHTS, PROVENANCE])
def test_half_an_adapter_is_none(tmp_path: Path, lost: str) -> None:
    adapter(tmp_path / "store" / "a", "a")
    (tmp_path / "store" / "a" / lost).unlink()
    assert adapter_key(tmp_path / "store" / "a") is None
    assert not bring_back("a", tmp_path / "current", tmp_path / "store")


def test_edited_weights_are_no_adapter(tmp_path: Path) -> None:
    adapter(tmp_path / "store" / "a", "a")
    (tmp_path / "store" / "a" / WEIGHTS).write_text("other weights", encoding="utf-8")
    assert adapter_key(tmp_path / "store" / "a") is None


def test_nothing_is_set_aside_where_there_is_nothing(tmp_path: Path) -> None:
    set_aside(tmp_path / "current", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_crash_while_an_adapter_is_brought_back_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = tmp_path / "current", tmp_path / "store"
    adapter(folder, "a")
    adapter(store / "b", "b")
    copy = module._copy

    def crash(source: Path, target: Path) -> None:
        if target == folder:
            raise KeyboardInterrupt
        copy(source, target)

    monkeypatch.setattr(module, "_copy", crash)
    with pytest.raises(KeyboardInterrupt):
        bring_back("b", folder, store)
    assert adapter_key(folder) == adapter_key(store / "a") == "a" and adapter_key(store / "b") == "b"
