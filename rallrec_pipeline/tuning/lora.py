"""The LoRA adapter: laid over a model, saved as safetensors with its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.errors import ModelError
from rallrec_pipeline.lake.files import atomic_path, read_json, write_json
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.lake.sealed import write_sealed
from rallrec_pipeline.settings import TuningSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

WEIGHTS, CONFIG, PROVENANCE = "adapter_model.safetensors", "adapter_config.json", "provenance.json"


def add_adapter(engine: TransformersEngine, settings: TuningSettings, seed: int) -> None:
    """Lay a fresh LoRA adapter over the engine's model; only the adapter is trainable.

    Raises ModelError when the model has none of the named modules.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from rallrec_pipeline.tuning.dropout import use_fast_dropout

    engine.restore()
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.modules),
        task_type="CAUSAL_LM",
    )
    try:
        engine.model = get_peft_model(engine.model, config)
    except ValueError as error:
        raise ModelError(
            f"the model has no modules {list(settings.modules)}: set tuning.modules to names that it has"
        ) from error
    engine.prepare()
    if engine.device.type == "cpu":
        use_fast_dropout(engine.model)


def adapter_state(engine: TransformersEngine) -> dict[str, Any]:
    """A copy of the adapter's weights, by name."""
    return {n: p.detach().clone() for n, p in engine.model.named_parameters() if p.requires_grad}


def restore_adapter(engine: TransformersEngine, state: Mapping[str, Any]) -> None:
    """Put the weights of `adapter_state` back."""
    for name, parameter in engine.model.named_parameters():
        if name in state:
            parameter.data.copy_(state[name])


def save_adapter(engine: TransformersEngine, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write adapter_model.safetensors, adapter_config.json and provenance.json, atomically.

    The first two are the same bytes whenever the same weights are saved.
    """
    with atomic_path(folder) as temporary:
        engine.model.save_pretrained(temporary, safe_serialization=True, save_embedding_layers=False)
        config = read_json(temporary / CONFIG)
        # The base model's path is this machine's business; provenance.json names it by fingerprint. The modules come
        # from a set, whose order is another one in every process.
        plain = {"base_model_name_or_path": None, "target_modules": sorted(config["target_modules"])}
        write_json(temporary / CONFIG, config | plain)
        (temporary / "README.md").unlink(missing_ok=True)
        write_sealed(temporary / PROVENANCE, {**provenance, "version": adapter_version(temporary)})


def adapter_version(folder: Path) -> str:
    """Hash of an adapter's weights and configuration; when and by which run it was tuned is not part of it."""
    return content_version([folder / WEIGHTS, folder / CONFIG])
