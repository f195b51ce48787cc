"""The engine of a stage: closed whatever happens, recorded, and no part of what results depend on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.language_models.engines import choice
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.pipeline.stages import engine as engines
from rallrec_pipeline.pipeline.stages.engine import OneEngine, model_version, tuning_model_version
from rallrec_pipeline.settings import ModelSettings, Settings
from rallrec_pipeline_tests.language_models.small_llama import NARROW, write_llama
from rallrec_pipeline_tests.pipeline.given import give_model, looking_run

TINY = ModelSettings(source="here", name="tiny", dtype="float32")


def run_with(run: StageRun, **model: Any) -> StageRun:
    return replace(run, settings=Settings(profile="small", model=TINY.model_copy(update=model)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StageRun:
    """A lake with a tiny model."""
    lake = tmp_path_factory.mktemp("lake")
    write_llama(lake / "models" / "tiny", NARROW)
    made = looking_run(lake, "movielens-100k", Settings(profile="small", model=TINY))
    give_model(made, TINY)
    return made


def test_an_engine_is_loaded_once_counted_and_closed(run: StageRun) -> None:
    with OneEngine(run, "score") as loaded:
        assert loaded.used is None
        engine = loaded.base()
        assert isinstance(engine, TransformersEngine) and loaded.of(None) is engine
        engine.score(["a"], ["b", "c"], chat=False)
        assert loaded.usage.rows == 1
        assert loaded.used is not None and loaded.used["name"] == "transformers" and loaded.used["reason"]
    assert engine.model is None
    engine.close()


def test_an_engine_is_closed_when_the_stage_fails(run: StageRun) -> None:
    kept: list[Any] = []

    def stage(failure: BaseException) -> None:
        with OneEngine(run, "score") as loaded:
            kept.append(loaded.base())
            raise failure

    for failure in (ValueError("bad row"), KeyboardInterrupt()):
        with pytest.raises(type(failure)):
            stage(failure)
    assert [engine.model for engine in kept] == [None, None]


def test_another_adapter_closes_the_engine_before(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two never share the memory."""
    load, open_at_load = engines.load_engine, []

    def watched(*arguments: Any) -> Any:
        open_at_load.append([engine.model is not None for engine in loaded_so_far])
        loaded_so_far.append(load(*arguments[:2], None, *arguments[3:]))
        return loaded_so_far[-1]

    loaded_so_far: list[Any] = []
    monkeypatch.setattr(engines, "load_engine", watched)
    with OneEngine(run, "score") as loaded:
        loaded.of(None)
        loaded.of(Path("one"))
        loaded.of(Path("two"))
    assert open_at_load == [[], [False], [False, False]]


def test_results_do_not_depend_on_the_engine(run: StageRun) -> None:
    kinds = [run_with(run, engine=name) for name in ("auto", "transformers", "vllm")]
    assert len({model_version(one) for one in kinds}) == 1
    spec = get_dataset("movielens-100k", run.lake)
    for stage in GRAPH:
        found = [stage.depends_on(one.settings, spec) for one in kinds]
        assert found[0] == found[1] == found[2], stage.name


def test_8bit_inference_is_another_model_and_8bit_tuning_another_tuning(run: StageRun) -> None:
    whole, eight, served = (
        run_with(run),
        run_with(run, load_in_8bit=True),
        run_with(run, load_in_8bit=True, engine="vllm"),
    )
    assert model_version(served) == model_version(whole) != model_version(eight)
    assert tuning_model_version(served) == tuning_model_version(eight) != tuning_model_version(whole)


def test_a_stage_gets_the_engine_that_is_chosen(run: StageRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is started by the first use only, so this needs none."""
    monkeypatch.setattr(choice, "vllm_build", lambda: "vllm")
    monkeypatch.setattr(choice, "version", lambda name: "1")
    monkeypatch.setattr(engines, "require_fit_model", lambda *_, **__: None)  # which would ask vLLM itself
    said: list[str] = []
    with OneEngine(replace(run_with(run, engine="vllm"), log=said.append), "score") as loaded:
        assert type(loaded.base()).__name__ == "VllmEngine"
    assert said == ["loading tiny in float32 (model.dtype) on vllm"] and loaded.used == {
        "name": "vllm",
        "reason": "the settings ask for it",
        "version": "1",
    }
