"""The model of a role: a lake that holds its files already fetches nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rallrec_pipeline.errors import DataError, ModelError
from rallrec_pipeline.language_models.models import fetch_model, is_as_fetched, model_folder
from rallrec_pipeline.pipeline.context import SHARED
from rallrec_pipeline.pipeline.graph import EVERY_STAGE
from rallrec_pipeline.pipeline.stage import looking, run_stage
from rallrec_pipeline.settings import ModelSettings, Settings
from rallrec_pipeline_tests.conftest import ENCODER

MODEL = ModelSettings(source=f"wheel:{ENCODER}", name="all-minilm-l6-v2")


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def test_a_model_that_was_copied_into_the_lake_is_used_offline(
    tmp_path: Path, encoder_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    run = looking(tmp_path, SHARED, Settings(profile="demo", encoder=MODEL))
    with pytest.raises((DataError, ModelError), match="pip cannot download"):
        run_stage(run, EVERY_STAGE, "encoder")
    shutil.copytree(encoder_path, model_folder(tmp_path, MODEL))
    done = run_stage(run, EVERY_STAGE, "encoder")
    assert done.worked and done.record.metadata["source"] == MODEL.source
    assert not run_stage(run, EVERY_STAGE, "encoder").worked


def test_the_record_of_a_fetched_folder_goes_with_it_and_holds_for_its_bytes_only(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / "source" / name).write_text(name, encoding="utf-8")
    model = ModelSettings(source=str(tmp_path / "source"), name="tiny")
    fetch_model(model, tmp_path / "one")
    assert not is_as_fetched(model, tmp_path / "one")  # the source is there, and may have changed
    shutil.rmtree(tmp_path / "source")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert is_as_fetched(model, tmp_path / "other")
    assert not is_as_fetched(model.model_copy(update={"source": "someone/tiny"}), tmp_path / "other")
    config = model_folder(tmp_path / "other", model) / "config.json"
    config.write_text(config.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert not is_as_fetched(model, tmp_path / "other")
