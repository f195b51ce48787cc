"""The LLM engine of a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rallrec_pipeline.errors import StaleArtefactError
from rallrec_pipeline.lake.provenance import Sidecar, read_sidecar, stable_hash
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Usage
from rallrec_pipeline.orchestration.run import SHARED, StageRun
from rallrec_pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine


def model_version(run: StageRun) -> str:
    """What every result of the LLM depends on: its files, and the numbers it computes with."""
    record = read_sidecar(run.lake, "base_model", SHARED)
    if record is None:
        raise StaleArtefactError("base_model was never made: run `rallrec run DATASET --select base_model` first")
    model, made = run.settings.model, record.settings
    if (made.get("source"), made.get("name")) != (model.source, model.name):
        # Another run may have put another model in its place: its results must not be filed under this one.
        raise StaleArtefactError(
            f"base_model is {made.get('name')!r} of {made.get('source')}, the settings ask for {model.name!r} of "
            f"{model.source}: run `rallrec run {run.dataset} --select base_model` first"
        )
    return stable_hash(record.data_version, _dtype(model, record), model.load_in_8bit)


def load_engine(run: StageRun, adapter: Path | None = None, usage: Usage | None = None) -> TransformersEngine:
    """The base model on the transformers engine, with a LoRA adapter merged into it if given.

    What it does is counted in `usage`.
    """
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine

    run.log(f"loading {run.settings.model.name}" + (f" with {adapter.name}" if adapter else ""))
    record = read_sidecar(run.lake, "base_model", SHARED)
    model = run.settings.model
    settings = model.model_copy(update={"dtype": _dtype(model, record)}) if record else model
    engine = TransformersEngine.load(model_folder(run.lake, model), settings, adapter)
    engine.usage = usage or engine.usage
    return engine


def _dtype(model: ModelSettings, record: Sidecar) -> str:
    """`auto` is what it was when the model was fetched: timed again, it might mix two types in one lake."""
    return str(record.metadata.get("auto_dtype", "auto")) if model.dtype == "auto" else model.dtype


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
