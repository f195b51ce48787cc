"""Calibration: measured on a random small Llama, kept in the lake, and turned into seconds."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rallrec_pipeline.language_models.sizing.architecture import LLAMA_8B, architecture_of, read_config
from rallrec_pipeline.language_models.sizing.calibration import (
    PRODUCT,
    WEIGHTS,
    Calibration,
    CalibrationKey,
    calibration_file,
    store_calibration,
    stored_calibration,
)
from rallrec_pipeline.language_models.sizing.measure import READING_SHARE, TRAINING_FACTOR, Product, calibrate, derive
from rallrec_pipeline.settings import Settings
from rallrec_pipeline_tests.language_models.small_llama import write_llama

KEY = CalibrationKey("a machine", "a model", "float32", False)
MADE = Calibration(
    KEY, WEIGHTS, "float32", ((32, 1e-3), (256, 2e-3)), ((8, 0.1), (64, 0.66)), (128, 4e-3), 3.0, 1e11, 5.0, "now"
)


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
    sizes, settings = architecture_of(read_config(folder)), Settings(profile="demo")
    found = calibrate(KEY, sizes, settings, folder, "float32")
    assert found.way == WEIGHTS and found.dtype == "float32" and found.key == KEY
    (short, _), (long, _) = found.reading
    assert short == 32 and 64 <= long <= 256, "as long as the time allows"
    assert [batch for batch, _ in found.writing] == [8, 32]
    assert all(seconds > 0 for _, seconds in (*found.reading, *found.writing, found.training))
    assert 0 < found.seconds < 60 and found.load_seconds > 0
    store_calibration(tmp_path, found)
    assert asdict(stored_calibration(tmp_path, KEY) or MADE) == asdict(found)


def test_a_model_that_is_not_there_or_too_slow_is_derived_from_a_matrix_product(tmp_path: Path) -> None:
    settings = Settings(profile="demo")
    sizes = architecture_of(read_config(write_llama(tmp_path / "model")))
    assert calibrate(KEY, sizes, settings, None, "float32").way == PRODUCT
    huge = replace(sizes, layers=10_000_000)
    assert calibrate(KEY, huge, settings, tmp_path / "model", "float32").way == PRODUCT


def test_the_arithmetic_without_weights() -> None:
    import torch

    product = Product(1e14, 1e12, "cuda", torch.bfloat16)
    found = derive(KEY, LLAMA_8B, product, eight_bit=False)
    per_token = 2 * LLAMA_8B.linear_parameters / (1e14 * READING_SHARE)
    assert found.reading_seconds(1000, 32) == pytest.approx(1000 * per_token, rel=0.01)
    assert found.training_seconds(1000, 96) == pytest.approx(1000 * per_token * TRAINING_FACTOR, rel=0.02)
    assert found.writing_seconds(1, 1) > 2 * LLAMA_8B.parameters / 1e12, "all weights are read for every step"
    halved = derive(KEY, LLAMA_8B, product, eight_bit=True)
    assert halved.writing_seconds(1, 1) < found.writing_seconds(1, 1)
