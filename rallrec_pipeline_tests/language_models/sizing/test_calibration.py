"""Calibration: measured on a random small Llama, kept in the lake, and turned into seconds."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.sizing.architecture import read_config
from rallrec_pipeline.language_models.sizing.calibration import (
    Calibration,
    CalibrationKey,
    calibration_file,
    store_calibration,
    stored_calibration,
)
from rallrec_pipeline.language_models.sizing.measure import calibrate
from rallrec_pipeline.settings import Settings
from rallrec_pipeline_tests.language_models.small_llama import write_llama

KEY = CalibrationKey("a machine", "a model", "float32", False)
MADE = Calibration(KEY, ((32, 1e-3), (256, 2e-3)), ((8, 0.1), (64, 0.66)), (128, 4e-3), 3.0, 5.0, "now")


def test_seconds_follow_the_measured_points() -> None:
    assert MADE.reading_seconds(1000, 32) == pytest.approx(1.0)
    assert MADE.reading_seconds(1000, 144) == pytest.approx(1.5)
    assert MADE.reading_seconds(1000, 704) == pytest.approx(4.0), "attention grows on"
    assert MADE.reading_seconds(1000, 1) == pytest.approx(1e3 * (1e-3 - 31e-3 / 224))
    assert MADE.writing_seconds(64 * 10, 64) == pytest.approx(6.6)
    assert MADE.writing_seconds(128 * 10, 128) == pytest.approx(10 * (0.66 + 0.64))
    assert MADE.training_seconds(1000, 128) == pytest.approx(4.0)
    assert MADE.training_seconds(1000, 256) > MADE.training_seconds(1000, 128)
    noisy = replace(MADE, reading=((32, 2e-3), (256, 1e-3)))
    assert noisy.reading_seconds(1000, 5000) > 0, "a slope below zero is noise"


def test_a_calibration_is_kept_by_what_it_holds_for(tmp_path: Path) -> None:
    assert stored_calibration(tmp_path, KEY) is None
    store_calibration(tmp_path, MADE)
    assert stored_calibration(tmp_path, KEY) == MADE
    for name, other in (("machine", "b"), ("model", "b"), ("dtype", "bfloat16"), ("load_in_8bit", True)):
        assert stored_calibration(tmp_path, replace(KEY, **{name: other})) is None
    calibration_file(tmp_path, KEY).write_text("{", encoding="utf-8")
    assert stored_calibration(tmp_path, KEY) is None


def test_the_model_itself_is_measured(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model")
    found = calibrate(KEY, Settings(profile="demo"), folder)
    assert found.key == KEY
    (short, _), (long, _) = found.reading
    assert short == 32 and 64 <= long <= 256, "as long as the time allows"
    assert [batch for batch, _ in found.writing] == [8, 32]
    assert all(seconds > 0 for _, seconds in (*found.reading, *found.writing, found.training))
    assert 0 < found.seconds < 60 and found.load_seconds > 0
    store_calibration(tmp_path, found)
    assert asdict(stored_calibration(tmp_path, KEY) or MADE) == asdict(found)


def test_speeds_of_a_busy_machine_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rallrec_pipeline.language_models.sizing.measure.MOST_SECONDS", 0)
    with pytest.raises(ModelError, match="what a busy machine does is not kept"):
        calibrate(KEY, Settings(profile="demo"), write_llama(tmp_path / "model"))


def test_a_model_that_does_not_fit_is_not_loaded(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model")
    config = read_config(folder) | {"num_hidden_layers": 10_000_000}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match=r"takes about \d+\.\d GB, .* are free"):
        calibrate(KEY, Settings(profile="demo"), folder)
