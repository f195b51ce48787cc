"""Every problem that a model has with the settings and this machine, told at once, before any weight is loaded.

Reads the configuration and the tokenizer only. The layers are built without storage (PyTorch's `meta` device), so that
module names and sizes are the real ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rallrec_pipeline.errors import ConfigError, ModelError, first_line
from rallrec_pipeline.language_models.engines.choice import EngineChoice, choose_engine, vllm_build
from rallrec_pipeline.language_models.engines.vllm_process import LORA_RANKS
from rallrec_pipeline.language_models.sizing.architecture import Architecture, architecture_of, read_config
from rallrec_pipeline.language_models.sizing.capacity import (
    LongPrompt,
    ModelCheck,
    Sizes,
    context_problems,
    longest_by_use,
    memory_problems,
    token_counts,
)
from rallrec_pipeline.language_models.sizing.footprint import USES, Use
from rallrec_pipeline.language_models.sizing.hardware import Hardware
from rallrec_pipeline.language_models.sizing.model_files import ModelFiles
from rallrec_pipeline.language_models.tokens import TokenizedModel, load_tokenizer
from rallrec_pipeline.settings import ModelSettings, Settings, TuningSettings

SCALED_LOGITS = {"logits_scaling": 1, "final_logit_softcapping": None, "logit_scale": 1}
"""What some models (Granite, Gemma 2, Cohere) do to their logits, and the value that does nothing."""


def check_model(
    files: ModelFiles | None,
    settings: Settings,
    hardware: Hardware,
    prompts: Sequence[LongPrompt],
    answers: Sequence[Sequence[str]],
    published: Architecture | None = None,
    uses: Sequence[Use] = USES,
) -> ModelCheck:
    """Compare a model with `settings` and `hardware`.

    `prompts` are the longest that there are or can be, `answers` the answers of each form. Without `files` only what
    follows from the `published` sizes is checked. `uses` are those that take place on `hardware`: on a Ray cluster only
    tuning does, and each node chooses its own engine.
    """
    found = ModelCheck()
    choice = None if settings.ray.address else _choice(settings.model, found)
    config, sizes = _configuration(files, found)
    sizes = sizes or published
    found.problems += _device_problems(settings.model, hardware, choice)
    found.warnings += _device_warnings(settings.model, hardware, choice)
    if files is not None:
        found.problems += _weight_problems(files)
        found.problems += _remote_code_problems(config)
        found.problems += _architecture_problems(config, settings, choice)
    tokenizer = _tokenizer(files, sizes, found) if files is not None and _is_known(config) else None
    counts = token_counts(prompts, tokenizer)
    if tokenizer is not None:
        found.problems += _answer_problems(tokenizer, answers)
        if tokenizer.tokenizer.chat_template is None:
            found.warnings.append(
                "the tokenizer has no chat template: chat prompts go in as they are, with a line end after them"
            )
    if sizes is not None:
        found.problems += _parallel_problems(sizes, settings.model, hardware, choice)
        found.problems += context_problems(sizes, prompts, counts)
        memory = memory_problems(Sizes(sizes, settings, hardware, choice, uses), longest_by_use(prompts, counts))
        found.problems += memory.problems
        found.warnings += memory.warnings
        found.figures |= memory.figures | {
            "longest prompt, tokens": max(counts, default=0),
            "context, tokens": sizes.context,
        }
    if settings.ray.address:
        found.warnings.append(f"the nodes of the Ray cluster {settings.ray.address} are not checked, only this machine")
    if choice is not None:
        found.figures["engine"] = f"{choice.name}: {choice.reason}"
    return found


def _choice(model: ModelSettings, found: ModelCheck) -> EngineChoice | None:
    try:
        return choose_engine(model)
    except ConfigError as error:
        found.problems.append(str(error))
        return EngineChoice("vllm", "the settings ask for it", "")


def _configuration(files: ModelFiles | None, found: ModelCheck) -> tuple[Mapping[str, Any], Architecture | None]:
    if files is None:
        return {}, None
    config: Mapping[str, Any] = {}
    try:
        config = read_config(files.folder)
        return config, architecture_of(config)
    except ModelError as error:
        found.problems.append(str(error))
        return config, None


def _weight_problems(files: ModelFiles) -> Iterator[str]:
    if not any(name.endswith(".safetensors") for name in files.names):
        other = sorted(name for name in files.names if name.endswith((".bin", ".pth", ".pt", ".gguf")))
        held = f" (it has {', '.join(other[:3])})" if other else ""
        yield f"the model has no *.safetensors weights{held}: save it with `save_pretrained`, or take another source"


def _remote_code_problems(config: Mapping[str, Any]) -> Iterator[str]:
    if "auto_map" in config:
        yield (
            "the model needs code of its own (auto_map in config.json), which is never run: "
            "take one whose architecture transformers has"
        )


def _architecture_problems(config: Mapping[str, Any], settings: Settings, choice: EngineChoice | None) -> Iterator[str]:
    """What the engines or the tuning need and the model's class does not have."""
    if not config:
        return
    named = [str(name) for name in config.get("architectures") or ()]
    if not _is_known(config):
        yield (
            f"transformers has no causal language model of the type {config.get('model_type')!r}: "
            "take another model, or a newer release"
        )
        return
    for name, neutral in SCALED_LOGITS.items():
        if config.get(name) not in (None, neutral):
            yield f"the model changes its logits ({name} in config.json), which scoring leaves out: take another model"
    if choice is not None and choice.name == "vllm" and vllm_build() is not None:
        yield from _vllm_problems(named)
    yield from _adapter_problems(config, settings.tuning, choice)


def _is_known(config: Mapping[str, Any]) -> bool:
    """Whether transformers has a class for the model; without one it does not read its tokenizer either."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as known

    return config.get("model_type") in known


def _vllm_problems(named: Sequence[str]) -> Iterator[str]:
    try:
        from vllm import ModelRegistry

        known = set(ModelRegistry.get_supported_archs())
    except Exception as error:  # a broken installation fails in many ways
        yield f"vLLM cannot be imported ({first_line(error)}): set model.engine to transformers"
        return
    if missing := [name for name in named if name not in known]:
        yield f"vLLM does not know {', '.join(missing)}: set model.engine to transformers"


def _adapter_problems(config: Mapping[str, Any], tuning: TuningSettings, choice: EngineChoice | None) -> Iterator[str]:
    try:
        linear = linear_modules(config)
    except Exception as error:  # transformers checks a configuration with many types of error
        yield f"transformers cannot build the model of config.json: {first_line(error)}"
        return
    own = {name.rpartition(".")[2] for name in linear}
    for name in tuning.modules:
        if not any(module == name or module.endswith(f".{name}") for module in linear):
            within = ", ".join(sorted(own))
            yield f"tuning.modules names {name!r}, which no layer of the model has: choose from {within}"
    if choice is not None and choice.name == "vllm" and tuning.rank > LORA_RANKS[-1]:
        yield f"tuning.rank is {tuning.rank}, vLLM takes adapters of rank {LORA_RANKS[-1]} at most: lower it"


def linear_modules(config: Mapping[str, Any]) -> list[str]:
    """Names of the model's linear modules but its output head, from its class without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {name: value for name, value in config.items() if name not in ("auto_map", "quantization_config")}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(values.pop("model_type"), **values), trust_remote_code=False
        )
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [name for name, module in linear if module is not model.get_output_embeddings()]


def _tokenizer(files: ModelFiles, sizes: Architecture | None, found: ModelCheck) -> TokenizedModel | None:
    try:
        return TokenizedModel(load_tokenizer(files.folder), sizes.context if sizes else 1 << 30, None)
    except Exception as error:  # the tokenizers of transformers fail in many ways
        found.problems.append(f"the tokenizer cannot be read: {first_line(error)}")
        return None


def _answer_problems(tokenizer: TokenizedModel, answers: Sequence[Sequence[str]]) -> Iterator[str]:
    for form in answers:
        try:
            tokenizer.trie(form)
        except ModelError as error:
            yield f"{error}: take another model, or another answer form (prompts.answer_form)"


def _device_problems(model: ModelSettings, hardware: Hardware, choice: EngineChoice | None) -> Iterator[str]:
    if hardware.kind == "cuda" and model.dtype == "bfloat16" and not hardware.has_bfloat16:
        yield f"{hardware.name} has no bfloat16: set model.dtype to float16"
    if model.load_in_8bit and importlib.util.find_spec("bitsandbytes") is None:
        yield "model.load_in_8bit needs bitsandbytes: `pip install bitsandbytes`, or set it to false"
    if model.tensor_parallel > 1 and choice is not None and choice.name != "vllm":
        yield f"model.tensor_parallel is {model.tensor_parallel}, but only vLLM shares a model over GPUs: set it to 1"


def _device_warnings(model: ModelSettings, hardware: Hardware, choice: EngineChoice | None) -> Iterator[str]:
    if hardware.kind == "cpu" and model.dtype in ("bfloat16", "float16") and not hardware.has_bfloat16:
        yield f'{model.dtype} is slow on {hardware.name}: model.dtype = "auto" takes float32 there, at twice the memory'
    if model.load_in_8bit and choice is not None and choice.name == "vllm":
        yield "vLLM has no 8-bit weights: they serve tuning only (model.load_in_8bit)"


def _parallel_problems(
    sizes: Architecture, model: ModelSettings, hardware: Hardware, choice: EngineChoice | None
) -> Iterator[str]:
    parts = model.tensor_parallel
    if parts == 1 or choice is None or choice.name != "vllm":
        return
    if parts > hardware.devices:
        plural = "" if hardware.devices == 1 else "s"
        yield f"model.tensor_parallel is {parts}, this machine has {hardware.devices} {hardware.kind} device{plural}"
    if sizes.heads % parts:
        fitting = ", ".join(str(n) for n in range(1, 17) if sizes.heads % n == 0)
        yield f"model.tensor_parallel {parts} does not divide the {sizes.heads} attention heads: choose from {fitting}"
    if sizes.key_heads % parts and parts % sizes.key_heads:
        yield f"model.tensor_parallel {parts} does not go with the {sizes.key_heads} key-value heads: choose a divisor"
    if sizes.intermediate % parts:
        yield f"model.tensor_parallel {parts} does not divide the inner width {sizes.intermediate}: choose another"
