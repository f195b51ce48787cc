"""The LLM engine of a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.provenance import read_sidecar, stable_hash
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Usage
from rallrec_pipeline.orchestration.run import SHARED, StageRun

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine


def model_version(run: StageRun) -> str:
    """What every result of the LLM depends on: its files, and the numbers it computes with."""
    record = read_sidecar(run.lake, "base_model", SHARED)
    if record is None:
        raise StaleArtefactError("base_model was never made: run `rallrec run DATASET --select base_model` first")
    model = run.settings.model
    return stable_hash(record.data_version, model.dtype, model.load_in_8bit)


def load_engine(run: StageRun, adapter: Path | None = None, usage: Usage | None = None) -> TransformersEngine:
    """The base model on the transformers engine, with a LoRA adapter merged into it if given.

    What it does is counted in `usage`.
    """
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine

    run.log(f"loading {run.settings.model.name}" + (f" with {adapter.name}" if adapter else ""))
    engine = TransformersEngine.load(model_folder(run.lake, run.settings.model), run.settings.model, adapter)
    engine.usage = usage or engine.usage
    return engine


@dataclass
class OneEngine:
    """The engine of one adapter at a time: the same one is not loaded twice, and two never share the memory."""

    run: StageRun
    loaded: dict[Path | None, TransformersEngine] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    """What all of them have done."""

    def of(self, adapter: Path | None) -> TransformersEngine:
        """The base model with `adapter`, or as it is."""
        if adapter not in self.loaded:
            self.loaded.clear()
            self.loaded[adapter] = load_engine(self.run, adapter, self.usage)
        return self.loaded[adapter]
