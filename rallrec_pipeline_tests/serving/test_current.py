"""Whatever cannot be loaded is told in a line; the rest is served, and the watch goes on."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.language_models.protocols import Engine
from rallrec_pipeline.language_models.sizing.footprint import Use
from rallrec_pipeline.language_models.sizing.hardware import Hardware
from rallrec_pipeline.pipeline import readiness
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.serving import current, new_items
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.snapshot import ServedMethod, Snapshot
from rallrec_pipeline_tests.lake.flips import flip
from rallrec_pipeline_tests.pipeline.tiny import SMALL, replace_once
from rallrec_pipeline_tests.serving.served import put_recommendations, serving, until


class SecondFails(Loader):
    """Its second load finds no memory."""

    loads = 0

    def load(self) -> tuple[Snapshot, list[Callable[[], None]]]:
        self.loads += 1
        if self.loads == 2:
            raise RuntimeError("CUDA out of memory\nand so on")
        return super().load()


def test_a_load_that_breaks_is_told_in_a_line_and_tried_again(own_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "RETRY_S", 0)
    with serving(SecondFails, methods=("factorisation",)) as served:
        made = put_recommendations(own_lake, {"u1": ["i3"]})
        until(served, "/users/u1/recommendations", lambda answer: answer["fingerprint"] == made)
    assert "what was loaded before is kept: RuntimeError: CUDA out of memory" in served.lines


class Overtaken(Loader):
    """While it loads for the first time another result lands."""

    made = ""

    def load(self) -> tuple[Snapshot, list[Callable[[], None]]]:
        found = super().load()
        if not self.made:
            self.made = put_recommendations(self.lake, {"u1": ["i5"]})
        return found


def test_a_result_that_lands_during_the_first_load_is_noticed(own_lake: Path) -> None:
    with serving(Overtaken, methods=("factorisation",)) as served:
        until(served, "/users/u1/recommendations", lambda answer: answer["recommendations"][0]["item_id"] == "i5")


@pytest.fixture
def serve(own_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the settings name the methods that are served."""
    settings, text = tmp_path / "own.toml", Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(settings))

    def write(*methods: str) -> None:
        settings.write_text(f"{text}\n[serving]\nmethods = {list(methods)}\n", encoding="utf-8")

    return write


def test_a_method_that_is_taken_out_of_the_settings_is_let_go(
    own_lake: Path, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("zero_shot", "factorisation")
    loader, closed = Loader(own_lake, SMALL, None, print), list[str]()
    loader.load()
    engine = vars(loader._loaded["zero_shot"].part)["answerer"].scorer
    monkeypatch.setattr(engine, "close", lambda: closed.append("engine"))
    serve("factorisation")
    snapshot, gone = loader.load()
    for close in gone:
        close()
    assert list(snapshot.methods) == ["factorisation"] and closed == ["engine"] and "zero_shot" not in snapshot.versions


def test_a_method_that_failed_and_is_taken_out_is_not_tried_again(own_lake: Path, serve: Callable[..., None]) -> None:
    serve("rallrec", "factorisation")
    shutil.rmtree(own_lake / "results" / SMALL / "predictions")
    loader = Loader(own_lake, SMALL, None, print)
    assert "rallrec" in loader.load()[0].failed
    serve("factorisation")
    assert "rallrec" not in loader.load()[0].failed


def test_a_damaged_adapter_is_not_served(own_lake: Path) -> None:
    (adapter,) = (own_lake / "results" / SMALL / "lora_adapter").glob("*/checkpoints/*/rallrec/*.safetensors")
    flip(adapter.resolve(), random.Random(3), start=adapter.stat().st_size // 2)
    with serving() as served:
        told = served.get("/version")["parts"]["rallrec"]["missing"]
    assert "adapter_model.safetensors is damaged" in told and "--select lora_adapter" in told


def test_the_encoder_of_new_items_is_closed_with_its_method(own_lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, load = list[str](), new_items.load_engine

    def loaded(run: StageRun, use: Use) -> Engine:
        engine = load(run, use)
        monkeypatch.setattr(engine, "close", lambda: closed.append(use))
        return engine

    monkeypatch.setattr(new_items, "load_engine", loaded)
    with serving() as served:
        history = [{"item_id": f"i{number}", "rating": 4} for number in range(1, 5)]  # more than a prompt shows
        served.score({"method": "rallrec", "targets": [{"title": "A new one"}], "history": history})
        _, method = served.current.snapshot.method("rallrec", None)
        close = next(one.close for one in served.current._loader._loaded.values() if one.part is method)
        close()
    assert closed == ["encode"]


def test_a_record_of_an_older_version_holds_back_its_own_method_alone(own_lake: Path) -> None:
    (manifest,) = (own_lake / "results" / SMALL / "retrieved_histories").glob("*/manifest.json")
    record = read_sealed(manifest)
    del record["metadata"]["alpha"]
    write_sealed(manifest, record)
    with serving() as served:
        parts = served.get("/version")["parts"]
    assert parts["rallrec"] == {"missing": "KeyError: 'alpha'"} and "fingerprint" in parts["factorisation"]


def test_a_model_without_memory_for_it_is_told_before_it_is_loaded(
    own_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Hardware("cpu", "a processor", 1, free_bytes=1, total_bytes=1)
    monkeypatch.setattr(readiness, "find_hardware", lambda _: small)
    with serving() as served:
        told = served.get("/version")["parts"]["rallrec"]["missing"]
    assert told.startswith("the model tiny cannot run here, 1 problem to mend: - ") and "memory" in told


def test_an_edited_dataset_file_is_known_to_the_next_method_that_is_loaded(own_lake: Path) -> None:
    loader = Loader(own_lake, SMALL, None, print)

    def title() -> str:
        found = loader.load()[0].methods["factorisation"]
        assert isinstance(found, ServedMethod)
        return found.catalogue.spec.title

    assert title() == "Small"
    replace_once(own_lake / "catalog" / f"{SMALL}.toml", '"Small"', '"Edited"')
    loader._loaded.clear()  # as if the methods had been made anew of the same tables
    assert title() == "Edited"
