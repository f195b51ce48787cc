"""Preflight of a model: a fit one passes, and every problem is found, all of them at once, without any weight."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.language_models.engines.choice import vllm_build
from rallrec_pipeline.language_models.sizing.architecture import LLAMA_8B
from rallrec_pipeline.language_models.sizing.capacity import LongPrompt, ModelCheck
from rallrec_pipeline.language_models.sizing.hardware import Hardware, find_hardware, machine_name
from rallrec_pipeline.language_models.sizing.model_files import local_files, small_files
from rallrec_pipeline.language_models.sizing.preflight import check_model, linear_modules
from rallrec_pipeline.settings import Settings, load_settings
from rallrec_pipeline_tests.language_models.small_llama import DEEPSEEK_R1_DISTILL, LLAMA_3_1, edit_config, write_llama

pytestmark = pytest.mark.usefixtures("built_in_settings_only")
CARD = Hardware("cuda", "a card", 1, 80 << 30, 80 << 30)
YES_NO, SCALE = ("Yes", "No"), ("1", "2", "3", "4", "5")
PROMPT = LongPrompt("evaluation prompts", "score", "retrieval.history_length", text="a film " * 100, added=4)
Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "model")


def paper(**model: Any) -> Settings:
    settings = load_settings("paper")
    changed = settings.model.model_copy(update={"engine": "transformers", **model})
    return settings.model_copy(update={"model": changed})


def check(
    folder: Path,
    settings: Settings | None = None,
    hardware: Hardware = CARD,
    prompts: tuple[LongPrompt, ...] = (PROMPT,),
    answers: tuple[tuple[str, ...], ...] = (YES_NO, SCALE),
) -> ModelCheck:
    return check_model(local_files(folder), settings or paper(), hardware, prompts, answers)


@pytest.mark.parametrize("config", [LLAMA_3_1, DEEPSEEK_R1_DISTILL], ids=["llama-3.1", "deepseek-r1-distill"])
def test_a_model_of_the_papers_passes(tmp_path: Path, config: dict[str, Any]) -> None:
    found = check(write_llama(tmp_path / "model", config))
    assert found.problems == found.warnings == []
    assert found.figures["context, tokens"] == 131_072 and found.figures["memory to tune"] > 9e8
    # The prompt is one token a byte, the template adds BOS and some more, and four may follow.
    assert found.figures["longest prompt, tokens"] == 1 + len("[user]" + "a film " * 100 + "[assistant]") + 4


def test_the_real_layers_of_the_papers_model_are_built_without_storage() -> None:
    values = {
        "hidden_size": LLAMA_8B.hidden,
        "intermediate_size": LLAMA_8B.intermediate,
        "num_hidden_layers": LLAMA_8B.layers,
        "num_attention_heads": LLAMA_8B.heads,
        "num_key_value_heads": LLAMA_8B.key_heads,
        "vocab_size": LLAMA_8B.vocabulary,
    }
    names = linear_modules(LLAMA_3_1 | values)
    assert len(names) == 7 * LLAMA_8B.layers and "model.layers.31.self_attn.v_proj" in names


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


PROBLEMS: dict[str, tuple[Change, dict[str, Any], str]] = {
    "no safetensors": (remove_weights, {}, r"no \*.safetensors weights \(it has pytorch_model.bin\): save it"),
    "remote code": (
        lambda folder: edit_config(folder, auto_map={"AutoModelForCausalLM": "own.Model"}),
        {},
        "code of its own .auto_map",
    ),
    "architecture": (
        lambda folder: edit_config(folder, model_type="novel", architectures=["NovelForCausalLM"]),
        {},
        "no causal language model of the type 'novel'",
    ),
    "logits": (lambda folder: edit_config(folder, final_logit_softcapping=30.0), {}, "changes its logits"),
    "sizes": (lambda folder: edit_config(folder, num_hidden_layers=None), {}, "states no num_hidden_layers"),
    "tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{", encoding="utf-8") and None,
        {},
        "the tokenizer cannot be read",
    ),
    "context": (
        lambda folder: edit_config(folder, max_position_embeddings=700),
        {},
        r"evaluation prompts: up to 722 tokens, the model's context is 700: lower retrieval.history_length",
    ),
    "parallel on transformers": (lambda folder: None, {"tensor_parallel": 2}, "only vLLM shares a model"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_one_line_that_says_how_to_mend(folder: Path, name: str) -> None:
    change, model, words = PROBLEMS[name]
    change(folder)
    (problem,) = check(folder, paper(**model)).problems
    assert re.search(words, problem) and "\n" not in problem


def test_settings_that_do_not_fit_the_model_or_the_machine_are_told_together(folder: Path) -> None:
    edit_config(folder, max_position_embeddings=600)
    settings = paper(tensor_parallel=3, engine="vllm")
    tuning = settings.tuning.model_copy(update={"modules": ("q_proj", "query"), "rank": 1024})
    settings = settings.model_copy(update={"tuning": tuning})
    old = replace(CARD, has_bfloat16=False, name="an old card", free_bytes=1 << 30)
    limited = replace(PROMPT, limit=100, limit_name="tuning.cutoff_tokens", text="word " * 50)
    found = check(folder, settings, old, (PROMPT, limited), (YES_NO, ("same", "same")))
    wanted = [
        "an old card has no bfloat16: set model.dtype to float16",
        "tuning.modules names 'query', which no layer of the model has: choose from down_proj, gate_proj, k_proj, "
        "o_proj, q_proj, up_proj, v_proj",
        "tuning.rank is 1024, vLLM takes adapters of rank 512 at most",
        "cannot tell the answers",
        "model.tensor_parallel is 3, this machine has 1 cuda device",
        "model.tensor_parallel 3 does not divide the 8 attention heads: choose from 1, 2, 4, 8",
        "model.tensor_parallel 3 does not go with the 2 key-value heads",
        "model.tensor_parallel 3 does not divide the inner width 128",
        "evaluation prompts: up to 722 tokens, the model's context is 600",
        "tuning.cutoff_tokens is 100: raise it or lower retrieval.history_length",
        "memory: vLLM takes 72.0 GiB of each GPU (model.gpu_memory 0.9), 1.0 GiB are free",
    ]
    wanted += ["vLLM is not installed"] if vllm_build() is None else []
    for words in wanted:
        assert sum(words in problem for problem in found.problems) == 1, (words, found.problems)
    memory = [problem for problem in found.problems if problem.startswith("memory: ")]
    assert len(found.problems) == len(wanted) + len(memory) - 1
    assert any("they serve tuning only" in warning for warning in found.warnings)


def test_memory_is_that_of_the_weights_or_of_the_use_with_what_to_lower(folder: Path) -> None:
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    edit_config(folder, num_key_value_heads=8, **sizes)
    (weights,) = check(folder, paper(load_in_8bit=False), replace(CARD, free_bytes=12 << 30)).problems
    assert weights.startswith("memory: the weights alone take 13.0 GiB (bfloat16), 12.0 GiB are free on a card")
    assert weights.endswith("take model.load_in_8bit = true or a smaller model")
    settings = paper(tokens_per_batch=8192)
    (tune,) = check(folder, settings, replace(CARD, free_bytes=20 << 30)).problems
    assert tune.startswith("memory: tune needs about") and "set tuning.tokens_per_batch to " in tune
    most = int(tune.rsplit("to ", 1)[1].split()[0])
    lowered = settings.model_copy(update={"tuning": settings.tuning.model_copy(update={"tokens_per_batch": most})})
    assert not check(folder, lowered, replace(CARD, free_bytes=20 << 30)).problems
    near = check(folder, lowered, replace(CARD, free_bytes=18 << 30))
    assert near.problems == [] and near.warnings[0].startswith("memory: tune needs"), "within the error of the estimate"


def test_on_a_cluster_only_what_this_machine_does_is_checked(folder: Path) -> None:
    settings = paper(engine="vllm", tensor_parallel=2)
    settings = settings.model_copy(update={"ray": settings.ray.model_copy(update={"address": "auto"})})
    small = replace(CARD, free_bytes=1 << 29)
    found = check_model(local_files(folder), settings, small, (PROMPT,), (YES_NO,), uses=())
    assert found.problems == [] and "the nodes of the Ray cluster auto are not checked" in found.warnings[-1]
    found = check_model(local_files(folder), settings, small, (PROMPT,), (YES_NO,), uses=("tune",))
    assert len(found.problems) == 1 and "the weights alone" in found.problems[0]


def test_what_works_but_should_be_known_is_a_warning(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "plain", template=None)
    slow = Hardware("cpu", "a processor", 1, 64 << 30, 64 << 30, has_bfloat16=False)
    found = check(folder, hardware=slow)
    assert found.problems == []
    assert ["no chat template" in warning for warning in found.warnings] == [False, True]
    assert "bfloat16 is slow on a processor" in found.warnings[0]


def test_without_the_files_the_published_sizes_still_tell(folder: Path) -> None:
    found = check_model(None, paper(), replace(CARD, free_bytes=8 << 30), (PROMPT,), (YES_NO,), LLAMA_8B)
    assert len(found.problems) == 1 and "the weights alone take 8.5 GiB (8-bit)" in found.problems[0]
    assert check_model(None, paper(), CARD, (PROMPT,), (YES_NO,)).problems == []


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught, small_files("no-such-owner/no-such-model"):
        pass
    assert "no-such-owner/no-such-model" in str(caught.value) and "local folder" in str(caught.value)
    assert "\n" not in str(caught.value)
    with small_files("wheel:some==1") as files:
        assert files is None


def test_this_machine_is_found(folder: Path) -> None:
    found = find_hardware()
    assert found.kind in ("cpu", "cuda") and 0 < found.free_bytes <= found.total_bytes
    assert machine_name() == machine_name() != ""
