"""The LLM engine of a stage: chosen, loaded when it is needed, closed at the end of the stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.language_models.dtypes import dtype_told, fetched_dtype
from rallrec_pipeline.language_models.engines.choice import EngineChoice, choose_engine, load_chosen
from rallrec_pipeline.language_models.engines.ray_engine import RayEngine, load_on_node, ray_engine
from rallrec_pipeline.language_models.models import model_folder
from rallrec_pipeline.language_models.protocols import Engine, Usage
from rallrec_pipeline.language_models.sizing.footprint import Use
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.readiness import engine_memory, require_fit_model
from rallrec_pipeline.settings import ModelSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine


def model_version(run: StageRun) -> str:
    """What every result of the LLM depends on: its files, and the numbers it computes with.

    Which engine computes is no part of it: engines agree (docs/engines.md), so a change of engine redoes nothing.
    """
    record, model = run.model_record, run.settings.model
    return stable_hash(record.data_version, fetched_dtype(model, record), model.infers_in_8bit)


def tuning_model_version(run: StageRun) -> str:
    """What tuning depends on; other than `model_version` only where weights are 8-bit for tuning alone."""
    record, model = run.model_record, run.settings.model
    return stable_hash(record.data_version, fetched_dtype(model, record), model.load_in_8bit)


def load_engine(run: StageRun, use: Use, adapter: Path | None = None, usage: Usage | None = None) -> Engine:
    """The base model for one `use` on the chosen engine, with a LoRA adapter if given.

    What it does is counted in `usage`. Whoever loads it must close it: `OneEngine` does.
    """
    if run.settings.ray.address:
        engine: Engine = _ray_engine(run, use, adapter)
    else:
        folder = model_folder(run.lake, run.settings.model)
        choice = choose_engine(run.settings.model, folder)
        run.log(_loading(run, adapter) + f" on {choice.name}")
        engine = load_chosen(choice, folder, engine_settings(run), adapter)
    engine.usage = usage or engine.usage
    return engine


def _ray_engine(run: StageRun, use: Use, adapter: Path | None) -> RayEngine:
    """Engines on a Ray cluster; each node chooses its own, as it would without Ray."""
    ray, folder = run.settings.ray, model_folder(run.lake, run.settings.model)
    run.log(_loading(run, adapter) + f" on the Ray cluster {ray.address}")
    load, memory = partial(load_on_node, engine_settings(run)), engine_memory(run.lake, run.settings, use)
    return ray_engine(ray, load, folder, adapter, run.settings.model.tensor_parallel, memory)


def load_tuning_engine(run: StageRun, usage: Usage) -> TransformersEngine:
    """The base model to be tuned, which only transformers can; what it does is counted in `usage`.

    It validates in batches no larger than those it is tuned in, so that tuning takes the memory that was asked for it.
    """
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine, default_tokens

    require_fit_model(run)
    run.log(_loading(run, None))
    engine = TransformersEngine.load(model_folder(run.lake, run.settings.model), engine_settings(run))
    budget = run.settings.tuning.tokens_per_batch or default_tokens(engine.model, "tune")
    engine.tokens_per_batch = min(engine.tokens_per_batch, budget)
    engine.usage = usage
    engine.deterministic = False  # validation only ranks; whether `[model]` says so is no part of an adapter's key
    return engine


@dataclass
class OneEngine:
    """The engine of one adapter at a time: the same one is not loaded twice, and two never share the memory.

    A context manager: at its end, after a failure too, the engine is closed and its processes are gone.
    """

    run: StageRun
    use: Use
    """What the stage does with it."""
    usage: Usage = field(default_factory=Usage)
    """What all of them have done."""
    choice: EngineChoice | None = None
    """None as long as nothing was loaded."""
    _adapter: Path | None = None
    _engine: Engine | None = None
    _ray_work: dict[str, Any] | None = None

    def __enter__(self) -> OneEngine:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def base(self) -> Engine:
        """The base model as it is."""
        return self.of(None)

    def of(self, adapter: Path | None) -> Engine:
        """The base model with `adapter`, or as it is."""
        if self._engine is not None and adapter != self._adapter and self._engine.switch(adapter):
            self._adapter = adapter
        if self._engine is None or adapter != self._adapter:
            self.close()
            require_fit_model(self.run, tunes=not self.run.settings.ray.address)  # on a cluster this process only tunes
            model, on_ray = self.run.settings.model, bool(self.run.settings.ray.address)
            self.choice = None if on_ray else choose_engine(model, model_folder(self.run.lake, model))
            self._engine, self._adapter = load_engine(self.run, self.use, adapter, self.usage), adapter
        return self._engine

    def close(self) -> None:
        """Close the engine that is loaded, if one is."""
        engine, self._engine = self._engine, None
        if isinstance(engine, RayEngine):
            self._ray_work = engine.work
        if engine is not None:
            engine.close()

    @property
    def used(self) -> dict[str, Any] | None:
        """Name, reason and version of the engine for the stage's metadata; None when nothing had to be computed.

        On Ray: how many actors worked, with which engines, and how many were lost.
        """
        return asdict(self.choice) if self.choice else self._ray_work


def engine_settings(run: StageRun) -> ModelSettings:
    """The settings with the dtype that was found when the model was fetched."""
    model = run.settings.model
    return model.model_copy(update={"dtype": fetched_dtype(model, run.model_record)})


def _loading(run: StageRun, adapter: Path | None) -> str:
    model = run.settings.model
    numbers = dtype_told(model, run.model_record)
    return f"loading {model.name}" + (f" with {adapter.name}" if adapter else "") + f" in {numbers}"
