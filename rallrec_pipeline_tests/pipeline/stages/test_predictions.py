"""Tuning and scoring as stages, on a few prompts and the real LLM: no finished row is computed twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.inference.methods import methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.pipeline.checks.llm import adapter_is_whole, probabilities_valid
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.pipeline.stages import engine as engines
from rallrec_pipeline.pipeline.stages.model import (
    checkpoint,
    is_tuned,
    tuning_rows,
)
from rallrec_pipeline.settings import (
    MIXTURE,
    MethodSettings,
    ModelSettings,
    PromptSettings,
    ScoringSettings,
    Settings,
    TuningSettings,
)
from rallrec_pipeline.tuning.store import CHECKPOINT
from rallrec_pipeline_tests.lake.stored import stored_rows
from rallrec_pipeline_tests.pipeline.given import give, give_model, looking_run, work

DATASET = "movielens-100k"
VALID, TEST = 4, 6
SCORED = 6 * (VALID + TEST)  # two tuned methods, four zero-shot ones
SETTINGS = Settings(
    profile="small",
    prompts=PromptSettings(answer_form="rating", augmentation=("relevance", "recent")),
    methods={
        "zero_shot_recent": MethodSettings(prompt_form="recent"),
        "zero_shot_yes_no": MethodSettings(answer_form="yes_no"),
        "zero_shot_yes_no_recent": MethodSettings(prompt_form="recent", answer_form="yes_no"),
    },
    tuning=TuningSettings(epochs=1, batch_size=4),
    scoring=ScoringSettings(calibration="platt", flush_every=3),
)


def lora_adapter(run: StageRun) -> Made:
    return work(run, "lora_adapter")[0]


def predictions(run: StageRun) -> Made:
    return work(run, "predictions")[0]


def prompt_rows(splits: dict[str, range], forms: tuple[str, ...], answers: tuple[str, ...]) -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for split, ids in splits.items():
        for number in ids:
            rating = 5 if number % 2 else 2
            for form in forms:
                for answer in answers:
                    asked = "Does the user like it? Yes or No." if answer == "yes_no" else "Ratings from 1 to 5:"
                    text = f"{asked}\nHeat, by {form}:{rating}\nAlien {number}:"
                    row = (number, "u", str(number), split, float(rating), int(rating > 3), form, answer, text)
                    rows.append((*row, str(rating) if answer == "rating" else "Yes", []))
    made = pl.DataFrame(rows, schema=dict(tables.PROMPT_COLUMNS), orient="row")
    return made.with_columns(retriever=pl.lit(MIXTURE), facts=pl.lit(""), titles=pl.lit(True))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> StageRun:
    """A lake in which both adapters are tuned and all methods are scored."""
    lake = tmp_path_factory.mktemp("lake")
    (lake / "models").mkdir()
    (lake / "models" / ModelSettings().name).symlink_to(model_path)
    run = replace(looking_run(lake, DATASET, SETTINGS), run_id="first")
    give_model(run, SETTINGS.model)
    tuning = prompt_rows({"train": range(20, 28)}, ("relevance", "recent"), ("rating",))
    splits = {"valid": range(VALID), "test": range(VALID, VALID + TEST)}
    evaluation = prompt_rows(splits, ("recent", "reranked"), ("rating", "yes_no"))
    give(run, tables.prompts_table("tuning"), tuning)
    give(run, tables.prompts_table("evaluation"), evaluation)
    lora_adapter(run)
    made = predictions(run)
    assert made.metadata["llm"]["rows"] == SCORED and made.metadata["llm"]["prompt_tokens"] > SCORED * 10
    assert made.metadata["llm"]["new_tokens"] == 0
    assert made.metadata["engine"]["name"] == "transformers" and made.metadata["engine"]["version"]
    rows = pl.DataFrame({"sample_id": range(VALID, VALID + TEST)}, schema={"sample_id": pl.Int64})
    others = {
        name: dtype
        for name, dtype in tables.RETRIEVED_HISTORIES.columns.items()
        if name not in ("split", *rows.columns)
    }
    histories = rows.with_columns(pl.lit("test").alias("split"), *(pl.lit(None, t).alias(n) for n, t in others.items()))
    give(run, tables.RETRIEVED_HISTORIES, histories.select(list(tables.RETRIEVED_HISTORIES.columns)))
    return run


@pytest.fixture
def run(first: StageRun, tmp_path: Path) -> StageRun:
    """A later run on a lake of its own."""
    shutil.copytree(first.lake, tmp_path / "lake", symlinks=True)
    return replace(first, lake=tmp_path / "lake", run_id="later", inputs=dict(first.inputs))


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on loading an LLM is a failure."""

    def fail(*arguments: Any) -> NoReturn:
        raise AssertionError("an engine was loaded")

    monkeypatch.setattr(engines, "load_engine", fail)
    monkeypatch.setattr("rallrec_pipeline.pipeline.stages.model.load_tuning_engine", fail)


def content(run: StageRun) -> dict[str, bytes]:
    """The predictions of all methods."""
    root = run.folder("predictions")
    return {m.name: tables.predictions_table(m.name).file(root, DATASET).read_bytes() for m in methods(SETTINGS)}


def records(run: StageRun) -> dict[str, dict[str, Any]]:
    return {
        path.parent.name: read_json(path) for path in run.folder("predictions").glob(f"predictions/*/{DATASET}.json")
    }


def test_a_second_run_needs_no_engine_and_keeps_what_scoring_cost(
    first: StageRun, run: StageRun, no_engine: None
) -> None:
    before = records(run)
    made = predictions(run)
    assert content(run) == content(first)
    assert made.metadata["llm"] == {"rows": 0, "prompt_tokens": 0, "new_tokens": 0}
    assert made.metadata["engine"] is None
    assert len(before) == 6
    for method, record in records(run).items():
        rows = VALID + TEST
        assert (before[method]["scored"], before[method]["reused"]) == (rows, 0)
        assert (record["scored"], record["reused"], record["tokens_per_second"]) == (0, rows, None)
        assert record["seconds"] == before[method]["seconds"] == made.metadata["seconds"][method] > 0


def test_a_run_that_was_broken_off_ends_alike_and_scores_only_the_rest(first: StageRun, run: StageRun) -> None:
    def stop_in_the_last_chunk(what: str) -> Progress:
        def progress(done: int, total: int) -> None:
            if what == "scoring recent" and done == total:
                raise KeyboardInterrupt

        return progress

    Memo(run.lake, SCORES).path.unlink()
    with pytest.raises(KeyboardInterrupt):
        predictions(replace(run, progress=stop_in_the_last_chunk))
    made = predictions(run)
    finished = VALID + TEST + 9  # all of `rallrec`, three chunks of three of `recent`
    assert made.metadata["llm"]["rows"] == SCORED - finished
    assert content(run) == content(first)
    assert records(run)["recent"]["scored"] == 1 and records(run)["recent"]["reused"] == 9
    assert stored_rows(run.lake, SCORES).height == SCORED


def test_who_tuned_an_adapter_and_when_changes_nothing(first: StageRun, run: StageRun, no_engine: None) -> None:
    version = first.given("lora_adapter").data_version
    for path in (run.lake / "cache" / "adapters").rglob("provenance.json"):
        write_sealed(path, read_sealed(path) | {"run_id": "another", "created_at": "another time"})
    assert lora_adapter(run).version == version
    assert read_json(checkpoint(run, "recent") / "provenance.json")["run_id"] == "another"
    assert predictions(run).metadata["llm"]["rows"] == 0


def test_an_adapter_that_is_tuned_again_is_the_same(first: StageRun, run: StageRun) -> None:
    version = first.given("lora_adapter").data_version
    assert lora_adapter(run).version == version
    assert read_json(checkpoint(run, "recent") / "provenance.json")["run_id"] == "first"  # results share what is tuned
    shutil.rmtree(run.lake / "cache" / "adapters")
    assert lora_adapter(run).version == version
    again, before = (read_sealed(checkpoint(r, "recent") / "provenance.json") for r in (run, first))
    assert again["run_id"] == "later" and before["run_id"] == "first" and again["key"] == before["key"]
    epochs = [[{**epoch, "seconds": 0} for epoch in record["tuning"]["epochs"]] for record in (again, before)]
    assert epochs[0] == epochs[1]
    own = {"run_id", "created_at", "tuning"}
    assert {k: v for k, v in again.items() if k not in own} == {k: v for k, v in before.items() if k not in own}


def test_an_edited_adapter_is_scored_anew(run: StageRun) -> None:
    before = scores(run, "recent")
    config = checkpoint(run, "recent") / "adapter_config.json"
    write_json(config, read_json(config) | {"lora_alpha": 160})
    made = predictions(run)
    assert made.metadata["llm"]["rows"] == records(run)["recent"]["scored"] == VALID + TEST
    assert np.abs(scores(run, "recent") - before).max() > 1e-4


def scores(run: StageRun, method: str) -> NDArray[np.float64]:
    """Probabilities of the answers on the test rows, before calibration: (TEST, answers)."""
    rows = run.read(tables.predictions_table(method)).filter(pl.col("split") == "test")
    return np.array(rows.sort("sample_id")["probabilities"].to_list())


def test_a_tuned_method_is_scored_with_its_own_adapter(first: StageRun) -> None:
    """The same prompts without an adapter have other answers."""
    for tuned, plain in (("rallrec", "zero_shot"), ("recent", "zero_shot_recent")):
        assert scores(first, tuned).shape == scores(first, plain).shape == (TEST, 5)
        assert np.abs(scores(first, tuned) - scores(first, plain)).max() > 1e-3
    settings = SETTINGS.model
    engine = TransformersEngine.load(first.lake / "models" / settings.name, settings, checkpoint(first, "recent"))
    prompts = first.read(tables.prompts_table("evaluation")).filter(
        (pl.col("split") == "test") & (pl.col("prompt_form") == "recent") & (pl.col("answer_form") == "rating")
    )
    alone = engine.score(prompts.sort("sample_id")["prompt"].to_list(), list("12345"), chat=False)
    np.testing.assert_allclose(scores(first, "recent"), alone, atol=0.02)


def test_the_checks_refute_wrong_probabilities(first: StageRun, run: StageRun) -> None:
    assert probabilities_valid(first).passed and probabilities_valid(first).figures["rows"] == TEST
    table = tables.predictions_table("recent")
    good, root = run.read(table), run.folder("predictions")
    for wrong in (1.1, -0.1, float("nan"), None):
        last = pl.col("sample_id") == VALID + TEST - 1
        changed = pl.when(last).then(pl.lit(wrong, pl.Float64)).otherwise("p_yes").alias("p_yes")
        write_table(good.with_columns(changed), table, root, DATASET)
        verdict = probabilities_valid(run)
        assert not verdict.passed and verdict.figures["bad"] == ["recent"], wrong
    write_table(good.filter(pl.col("sample_id") != VALID), table, root, DATASET)
    assert not probabilities_valid(run).passed


def test_the_checks_refute_an_adapter_of_another_model_or_without_weights(first: StageRun, run: StageRun) -> None:
    verdict = adapter_is_whole(first)
    assert verdict.passed and set(verdict.figures["validation_auc"]) == {"recent", "rallrec"}
    (checkpoint(run, "recent") / "adapter_model.safetensors").unlink()
    assert adapter_is_whole(run).figures["bad"] == ["recent"]
    other = replace(run, settings=SETTINGS.model_copy(update={"model": ModelSettings(load_in_8bit=True)}))
    verdict = adapter_is_whole(other)
    assert not verdict.passed and set(verdict.figures["bad"]) == {"recent", "rallrec"}


def test_how_the_work_is_cut_up_makes_no_adapter_stale(run: StageRun, no_engine: None) -> None:
    tuning = SETTINGS.tuning.model_copy(update={"checkpoint_every": 1, "tokens_per_batch": 77})
    other = replace(run, settings=SETTINGS.model_copy(update={"tuning": tuning}))
    before = run.given("lora_adapter").data_version
    assert lora_adapter(other).version == before
    (stage,) = (stage for stage in GRAPH if stage.name == "lora_adapter")
    assert stage.depends_on(other.settings, run.spec) == stage.depends_on(run.settings, run.spec)


def test_tuning_that_was_broken_off_goes_on_and_ends_alike(first: StageRun, run: StageRun) -> None:
    def stop_after(step: int) -> Callable[[str], Progress]:
        def progress(done: int, total: int) -> None:
            if done == step:
                raise KeyboardInterrupt

        return lambda what: progress if what == "tuning recent" else lambda done, total: None

    shutil.rmtree(run.lake / "cache" / "adapters")
    every_step = SETTINGS.tuning.model_copy(update={"checkpoint_every": 1})
    run = replace(run, settings=SETTINGS.model_copy(update={"tuning": every_step}))
    with pytest.raises(KeyboardInterrupt):
        lora_adapter(replace(run, progress=stop_after(1)))
    aside = run.lake / "cache" / "adapters" / DATASET / "recent"
    (file,) = aside.glob("*/*")
    assert file.name == CHECKPOINT and not is_tuned(run, "recent", tuning_rows(run, "recent"))
    lines: list[str] = []
    made = lora_adapter(replace(run, log=lines.append))
    assert made.version == first.given("lora_adapter").data_version
    assert made.metadata["recent"]["resumed_at"] == [1] and made.metadata["rallrec"]["resumed_at"] == []
    assert "tuning goes on after step 1 of 6" in lines
    assert not list(run.lake.rglob(CHECKPOINT))
    assert made.metadata["llm"]["rows"] == 20 + 16 + 2 * VALID  # the rest of `recent`, all of `rallrec`, validation
