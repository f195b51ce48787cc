"""The LLM engine of a stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.orchestration.run import StageRun

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine


def load_engine(run: StageRun, adapter: Path | None = None) -> TransformersEngine:
    """The base model on the transformers engine, with a LoRA adapter merged into it if given."""
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine

    run.log(f"loading {run.settings.model.name}" + (f" with {adapter.name}" if adapter else ""))
    return TransformersEngine.load(model_folder(run.lake, run.settings.model), run.settings.model, adapter)
