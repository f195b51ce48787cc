"""Whatever cannot be loaded is told in a line; the rest is served, and the watch goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.language_models.protocols import Engine
from rallrec_pipeline.language_models.sizing.hardware import Hardware
from rallrec_pipeline.pipeline import readiness
from rallrec_pipeline.serving import current
from rallrec_pipeline.serving.loading import Loader
from rallrec_pipeline.serving.snapshot import ServedMethod, Snapshot
from rallrec_pipeline_tests.pipeline.tiny import SMALL, replace_once
from rallrec_pipeline_tests.serving.served import put_recommendations, serving, until


class SecondFails(Loader):
    """Its second load finds no memory."""

    loads = 0

    def load(self) -> tuple[Snapshot, list[Engine]]:
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
