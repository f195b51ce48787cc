"""LoRA adapters with random weights, as tests need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.settings import ModelSettings, TuningSettings
from rallrec_pipeline.tuning.lora import add_adapter, save_adapter


def random_adapter(model: Path, folder: Path, seed: int = 2) -> TransformersEngine:
    """Write an adapter that moves answers into `folder`; returns the float32 engine that has it, not merged."""
    engine = TransformersEngine.load(model, ModelSettings(dtype="float32"))
    add_adapter(engine, TuningSettings(rank=4), seed=1)
    rng = np.random.default_rng(seed)
    for name, parameter in engine.model.named_parameters():
        if "lora_B" in name:  # zero in a fresh adapter, which would change nothing
            parameter.data += parameter.data.new_tensor(rng.normal(scale=0.02, size=parameter.shape))
    engine.model.eval()  # a fresh adapter is in training, with dropout
    save_adapter(engine, folder, {"key": "k"})
    return engine
