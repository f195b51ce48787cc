"""vLLM on the real LLM: the same answers as the transformers engine, and no process that outlives it.

Skipped only where vLLM is not installed (docs/engines.md), and never in CI: `.ci/run` installs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import write_json
from rallrec_pipeline.language_models.agreement import Reading, compare, read_engine
from rallrec_pipeline.language_models.engines.choice import EngineChoice, choose_engine, load_chosen, vllm_build
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.engines.vllm_engine import VllmEngine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Engine, Sampling
from rallrec_pipeline.pipeline import engine_check
from rallrec_pipeline.settings import ModelSettings
from rallrec_pipeline_tests.language_models.adapters import random_adapter
from rallrec_pipeline_tests.language_models.engines import vllm_worker
from rallrec_pipeline_tests.language_models.engines.contract import (
    QUESTIONS,
    RATINGS,
    TEN,
    AdapterContract,
    ClosingContract,
    Contract,
    EncoderContract,
    GeneratorContract,
    Holds,
    Load,
    ScorerContract,
    two_adapters,
)
from rallrec_pipeline_tests.language_models.real_prompts import write_real_prompts
from rallrec_pipeline_tests.language_models.small_llama import DEEPSEEK_R1_DISTILL, FOR_VLLM, edit_config, write_llama

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        vllm_build() is None and "CI" not in os.environ, reason="vLLM is not installed: docs/engines.md says how"
    ),
]

SETTINGS = ModelSettings(dtype="float32", engine="vllm")
GONE_S = 30


@pytest.fixture(scope="module")
def plain(model_path: Path) -> TransformersEngine:
    """The other engine, with the same numbers."""
    return TransformersEngine.load(model_path, ModelSettings(dtype="float32"))


@pytest.fixture(scope="module")
def served(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of the adapters that vLLM is started for."""
    return two_adapters(model_path, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def vllm(model_path: Path, served: list[Path]) -> Iterator[VllmEngine]:
    """vLLM takes long to load, so the tests share it, started for adapters; those that make it encode come last."""
    before = children()
    choice = choose_engine(SETTINGS)
    assert choice.name == "vllm" and choice.version
    engine = load_chosen(choice, model_path, SETTINGS, served[0])
    assert isinstance(engine, VllmEngine)
    engine.score(RATINGS[:1], TEN, chat=False)
    assert engine.switch(None)
    yield engine
    engine.close()
    engine.close()  # twice is no fault
    assert children() <= before


def children() -> set[int]:
    """Processes that this one has started, and theirs; Python's own resource tracker lives as long as it does."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # which a zombie is too
            if not any("resource_tracker" in part for part in child.cmdline()):
                found.add(child.pid)
    return found


class VllmContract(Contract):
    tolerance = 1e-3
    cosine = 0.9999

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, model_path: Path) -> Path:
        return model_path

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls, folder: Path) -> Load:
        return partial(load_chosen, choose_engine(SETTINGS), folder, SETTINGS)

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, vllm: VllmEngine) -> VllmEngine:
        return vllm

    @pytest.fixture(scope="class")
    @classmethod
    def adapters(cls, served: list[Path]) -> list[Path]:
        return served


class TestTheSmallLlmOnVllm(VllmContract, GeneratorContract, ScorerContract, AdapterContract):
    pass


def test_a_sampled_text_depends_on_its_seed_and_not_on_the_batch(vllm: VllmEngine) -> None:
    first, other = (vllm.generate(QUESTIONS, Sampling(16, 0.8, 0.9, seed)) for seed in (3, 4))
    assert first != other
    assert [vllm.generate([prompt], Sampling(16, 0.8, 0.9, 3))[0] for prompt in QUESTIONS] == first


def test_more_seeded_prompts_than_one_step_reads_do_not_end_it(vllm: VllmEngine) -> None:
    """A step reads 4,096 tokens on a CPU; a prompt that were cut there would set its seed's random numbers back."""
    prompts = [f"{number}. Describe this movie. " + "A long story of love and loss. " * 25 for number in range(26)]
    before = vllm.usage.prompt_tokens
    assert len(vllm.generate(prompts, Sampling(1, 0.8, 0.9, seed=1))) == len(prompts)
    assert vllm.usage.prompt_tokens - before > 4096


def test_another_adapter_starts_nothing_anew_and_one_of_a_higher_rank_is_refused(
    vllm: VllmEngine, served: list[Path], tmp_path: Path
) -> None:
    processes = children()
    for adapter in (*served, None):
        assert vllm.switch(adapter)
        vllm.score(RATINGS[:1], TEN, chat=False)
    assert children() == processes
    tmp_path.joinpath("high").mkdir()
    write_json(tmp_path / "high" / "adapter_config.json", {"r": 64})
    assert not vllm.switch(tmp_path / "high"), "its rank is higher than what vLLM was started for"
    with pytest.raises(ModelError, match="no adapter in"):
        VllmEngine.load(vllm.folder, SETTINGS, tmp_path / "nothing")


class Lent:
    """An engine that stays open."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.score, self.encode = engine.score, engine.encode

    def close(self) -> None:
        pass


def test_the_engines_agree_on_real_prompts(
    vllm: VllmEngine,
    plain: TransformersEngine,
    movielens: Path,
    spec: DatasetSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`rallrec engines`, which is lent the engines that are loaded here already."""
    write_real_prompts(tmp_path, movielens, spec, users=100, texts=50)
    monkeypatch.delenv("RALLREC_PROFILE", raising=False)
    monkeypatch.delenv("RALLREC_SETTINGS", raising=False)
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path))
    readings: list[Reading] = []

    def read(engine: Engine, *arguments: Any) -> Reading:
        readings.append(read_engine(engine, *arguments))
        return readings[-1]

    def lend(choice: EngineChoice, folder: Path, settings: ModelSettings, adapter: Path | None) -> Lent:
        assert folder == model_folder(tmp_path, settings) and not settings.load_in_8bit and adapter is None
        assert settings.engine == choice.name
        return Lent({"vllm": vllm, "transformers": plain}[choice.name])

    monkeypatch.setattr(engine_check, "load_chosen", lend)
    monkeypatch.setattr(engine_check, "read_engine", read)
    told = CliRunner().invoke(app, ["engines", spec.name])
    assert told.exit_code == 0, told.output
    assert "base model: 200 prompts: largest |ΔP(yes)|" in told.output and told.output.endswith("the engines agree\n")
    found = compare(*readings)
    assert (found.prompts, found.texts) == (200, 50) and found.problems == [], found
    lengths = [np.linalg.norm(reading.vectors, axis=1) for reading in readings]
    np.testing.assert_allclose(*lengths, rtol=1e-3)  # not normalised


def has_its_processes(engine: Engine) -> Callable[[], bool]:
    started = children()
    return lambda: bool(children() & started)


class TestTheSmallLlmAsEncoderOnVllm(VllmContract, ClosingContract, EncoderContract):
    """Tests of the class that is named last run first: what encodes already is closed at the end."""

    @pytest.fixture
    def spent(self, vllm: VllmEngine) -> VllmEngine:
        return vllm

    @pytest.fixture
    def holds(self) -> Holds:
        return has_its_processes


def test_a_model_that_cannot_be_loaded_is_one_line_and_leaves_no_process(model_path: Path, tmp_path: Path) -> None:
    before = children()
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model_path.iterdir():
        (broken / file.name).symlink_to(file)
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors").write_bytes(b"nothing")
    engine = VllmEngine.load(broken, SETTINGS)
    with pytest.raises(ModelError, match="vLLM cannot load") as caught:
        engine.score(["Is the sky blue?"], ["Yes", "No"], chat=True)
    engine.close()
    assert "\n" not in str(caught.value)
    assert still_there(children() - before) == set()


def test_without_an_adapter_all_is_as_with_one_and_no_process_outlives_an_interrupt(
    plain: TransformersEngine, model_path: Path
) -> None:
    told = ended_worker(signal.SIGINT, model_path)
    expected = plain.score(vllm_worker.RATINGS, vllm_worker.FIVE, chat=False)
    np.testing.assert_allclose(told["answers"], expected, atol=1e-3)
    assert told["texts"] == plain.generate(vllm_worker.ASKED, vllm_worker.NEARLY_GREEDY)


def test_the_papers_model_is_read_alike_and_no_process_outlives_a_kill(tmp_path: Path) -> None:
    """A narrow one with random weights and an adapter; the rope scaling, as in Llama 3.1, is heeded."""
    model, adapter = write_llama(tmp_path / "model", DEEPSEEK_R1_DISTILL | FOR_VLLM), tmp_path / "adapter"
    expected = random_adapter(model, adapter).score(vllm_worker.RATINGS, vllm_worker.FIVE, chat=False)
    told = ended_worker(signal.SIGKILL, model, adapter)
    np.testing.assert_allclose(told["answers"], expected, atol=5e-5)
    edit_config(model, rope_scaling=None)
    unscaled = TransformersEngine.load(model, ModelSettings(dtype="float32"), adapter)
    assert np.abs(unscaled.score(vllm_worker.RATINGS, vllm_worker.FIVE, chat=False) - expected).max() > 2e-4


def ended_worker(how: signal.Signals, *folders: Path) -> dict[str, Any]:
    """What `vllm_worker` told before it was ended; nothing that it has started is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", vllm_worker.__name__, *map(str, folders)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    watchdog = threading.Timer(600, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(next(line for line in process.stdout if line.startswith("{")))
        process.send_signal(how)
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR1)
        time.sleep(1)
        raise
    finally:
        watchdog.cancel()
        process.kill()
    assert told["children"] and still_there(set(told["children"])) == set()
    return told


def still_there(pids: set[int]) -> set[int]:
    """Which of the processes are alive after a while."""
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, left = psutil.wait_procs(alive, GONE_S)
    return {process.pid for process in left if process.status() != psutil.STATUS_ZOMBIE}
