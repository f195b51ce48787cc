"""What a report tells of the settings that it was made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.pipeline.origin import laid_over
from rallrec_pipeline.settings import load_settings
from rallrec_pipeline_tests.pipeline.given import looking_run


def test_settings_that_lie_over_a_profile_are_told_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[prompts]\ntest_samples = 60\ntrain_samples = 1024\n[tuning]\nlearning_rate = 5e-4\nepochs = 5\n"
        "checkpoint_every = 3\n[serving]\ntargets = 7\n[index]\nprobes = 3\n"  # these change no figure
    )
    monkeypatch.setenv("RALLREC_SETTINGS", str(mine))
    full = looking_run(tmp_path, "shop", load_settings("full", lake=tmp_path))
    told = {"prompts.test_samples": 60, "tuning.learning_rate": 5e-4, "tuning.epochs": 5}
    assert laid_over(full) == told  # `full` has 1,024 samples; five epochs are the default, which `full` departs from
    monkeypatch.delenv("RALLREC_SETTINGS")
    assert laid_over(looking_run(tmp_path, "shop", load_settings("full", lake=tmp_path))) == {}


def test_a_method_more_is_told_also_where_it_is_all_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[methods.plain]\n")
    monkeypatch.setenv("RALLREC_SETTINGS", str(mine))
    told = laid_over(looking_run(tmp_path, "shop", load_settings("demo", lake=tmp_path)))
    assert told and all(name.startswith("methods.plain.") for name in told)


def test_a_variant_that_no_file_tells_of_has_nothing_over_it(tmp_path: Path) -> None:
    settings = load_settings("demo", lake=tmp_path, called="study-demo-one")
    assert laid_over(looking_run(tmp_path, "shop", settings)) == {}
