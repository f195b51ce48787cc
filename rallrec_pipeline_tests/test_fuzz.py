"""Mutants of every input from outside: the reader ends well, or in one line of its own."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rallrec_pipeline_tests.fuzzing.mutants import mutant
from rallrec_pipeline_tests.fuzzing.readers import survives
from rallrec_pipeline_tests.fuzzing.targets import TARGETS
from rallrec_pipeline_tests.pipeline.tiny import REPOSITORY

MANY = int(os.environ.get("RALLREC_MUTANTS", "150"))


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_read(name: str) -> None:
    for sound in TARGETS[name].seeds():
        assert survives(TARGETS[name].read, sound) is None


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(TARGETS)), seed=st.integers(0, 10**9))
@example(name="config", seed=0)
def test_a_few_mutants_of_each_input_are_survived(name: str, seed: int) -> None:
    assert survives(TARGETS[name].read, mutant(seed, TARGETS[name].seeds())) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutants_of_each_input_are_survived(name: str) -> None:
    """RALLREC_MUTANTS says how many."""
    sound = TARGETS[name].seeds()
    found = {
        why: seed for seed in range(MANY) if (why := survives(TARGETS[name].read, mutant(seed, sound))) is not None
    }
    assert not found


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_atheris_finds_are_survived(name: str, tmp_path: Path) -> None:
    command = [executable, "-m", "rallrec_pipeline_tests.fuzzing", name, "-max_total_time=10", "-rss_limit_mb=0"]
    ended = run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_no_mutant_of_a_file_with_types_ends_the_process(name: str) -> None:
    """In a process of its own, since such an end cannot be caught."""
    command = [executable, "-m", "rallrec_pipeline_tests.fuzzing.typed", name, str(20 * MANY)]
    ended = run(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")[-2000:]
