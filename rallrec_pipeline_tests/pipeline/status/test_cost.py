"""Estimates before a run: calibrations, memory, models and datasets that nothing was made with yet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.locks import LLM
from rallrec_pipeline.lake.sealed import read_sealed, write_sealed
from rallrec_pipeline.lake.store import all_records
from rallrec_pipeline.language_models.sizing.calibration import calibration_file
from rallrec_pipeline.language_models.sizing.footprint import footprint
from rallrec_pipeline.language_models.sizing.hardware import machine_name
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.pipeline.readiness import HISTORY_TOKENS, long_prompts
from rallrec_pipeline.pipeline.status.cost import DEFAULT, OTHER_MODEL, THIS_DATASET, work_of
from rallrec_pipeline.pipeline.status.speeds import CALIBRATED, Speeds
from rallrec_pipeline.pipeline.status.status import AssetStatus, dataset_status
from rallrec_pipeline.pipeline.status.table import catching_up
from rallrec_pipeline.settings import ROLES, RetrieverSettings, Settings, load_settings
from rallrec_pipeline_tests.lake.test_locks import hold
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import keep, make_world, restore, use_lake

ITEMS = 10
World = tuple[Path, Settings]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a tiny LLM, but nothing that the LLM has made."""
    root = tmp_path_factory.mktemp("cost") / "made"
    with pytest.MonkeyPatch.context() as patch:
        lake = make_world(root, patch, ("slice",))
        run(lake, load_settings(), *(stage.name for stage in GRAPH if stage.group in ("raw", "data")), *ROLES)
    keep(root)
    return root


@pytest.fixture
def world(made: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    restore(made)
    use_lake(made / "lake", made / "settings.toml", monkeypatch)
    return made / "lake", load_settings()


def run(lake: Path, settings: Settings, *names: str) -> None:
    make_stages(lake, "slice", settings, *names)


def assets(speeds: Speeds, dataset: str = "slice") -> dict[str, AssetStatus]:
    return {asset.asset: asset for asset in dataset_status(speeds.lake, dataset, speeds.settings, speeds).assets}


def test_a_calibration_is_measured_once_and_its_seconds_are_the_estimate(world: World) -> None:
    lake, settings = world
    assert assets(Speeds(lake, settings))["title_embeddings"].cost.basis == DEFAULT
    said: list[str] = []
    speeds = Speeds(lake, settings, "once", said.append)
    titles = assets(speeds)["title_embeddings"]
    measured = speeds.calibration()
    assert measured is not None and len(said) == 1 and "tiny" in said[0]
    assert titles.cost.basis == CALIBRATED and titles.cost.is_exact
    now = titles.cost.now
    assert now.rows == ITEMS and now.tokens == sum(len(f"Title {i}, a item.") for i in range(ITEMS))
    assert now.seconds == pytest.approx(
        measured.load_seconds + measured.reading_seconds(now.tokens, now.tokens / ITEMS), abs=0.11
    )
    again = Speeds(lake, settings, "once", said.append)
    assert assets(again)["title_embeddings"].cost == titles.cost and len(said) == 1
    assert Speeds(lake, settings, "anew", said.append).calibration() != measured and len(said) == 2
    words = catching_up(dataset_status(lake, "slice", settings, again))
    assert f"lora_adapter, predictions by {CALIBRATED}" in words
    assert "GB of memory" in words


def test_tokens_come_from_the_models_tokenizer_and_a_run_replaces_the_calibration(world: World) -> None:
    lake, settings = world
    speeds = Speeds(lake, settings, "once")
    before = assets(speeds)
    run(lake, settings, "item_descriptions", "title_embeddings")
    record = in_force_now(lake, "slice", "title_embeddings")
    assert before["title_embeddings"].cost.now.tokens == record.metadata["llm"]["prompt_tokens"]
    assert record.metadata["machine"] == machine_name()
    changed = settings.model_copy(
        update={"descriptions": settings.descriptions.model_copy(update={"max_new_tokens": 9})}
    )
    assert assets(Speeds(lake, changed, "once"))["item_descriptions"].cost.basis == THIS_DATASET
    described = in_force_now(lake, "slice", "item_descriptions")
    asked, estimated = work_of(described), before["item_descriptions"].cost.now.tokens
    assert asked is not None and estimated is not None
    # This LLM writes nothing of use, so each text is asked for twice, and the few rows share a long prefix.
    assert asked.tokens / 6 < estimated < asked.tokens
    # What another machine needed says nothing of this one.
    manifest = described.manifest(lake)
    write_sealed(manifest, read_sealed(manifest) | {"metadata": {**described.metadata, "machine": "another"}})
    assert assets(Speeds(lake, changed, "once"))["item_descriptions"].cost.basis == CALIBRATED
    for file in (lake / "cache" / "calibration").glob("*.json"):
        file.unlink()
    assert assets(Speeds(lake, changed))["item_descriptions"].cost.basis == OTHER_MODEL


def test_an_llm_in_use_is_not_disturbed(world: World) -> None:
    lake, settings = world
    other = hold(lake, LLM)
    try:
        speeds = Speeds(lake, settings, "once", pytest.fail)
        assert assets(speeds)["title_embeddings"].cost.basis == DEFAULT
        assert speeds.notes == [f"no calibration: the LLM is in use by {holder(lake)}, which would spoil it"]
    finally:
        other.kill()
        other.wait()


def holder(lake: Path) -> str:
    known = read_json(lake / "locks" / f"{LLM}.json")
    return f"process {known['pid']} on {known['host']}"


def test_memory_is_that_of_each_stage_and_the_most_in_all(world: World) -> None:
    lake, settings = world
    speeds = Speeds(lake, settings)
    found, sizes = assets(speeds), speeds.architecture()
    assert sizes is not None
    pure = footprint("tune", sizes, settings, "cpu", 0).total
    assert found["lora_adapter"].memory == pytest.approx(pure, rel=0.05)
    wide = settings.model_copy(update={"tuning": settings.tuning.model_copy(update={"tokens_per_batch": 1_000_000})})
    more = assets(Speeds(lake, wide))
    assert (more["lora_adapter"].memory or 0) > 2 * pure
    assert more["title_embeddings"].memory == found["title_embeddings"].memory
    assert found["core_items"].memory is None and (found["text_embeddings"].memory or 0) > 1e8
    status = dataset_status(lake, "slice", wide)
    assert status.memory == more["lora_adapter"].memory
    told = json.loads(CliRunner().invoke(app, ["status", "slice", "--json"]).stdout)
    cost = told["datasets"]["slice"]["assets"]["lora_adapter"]["cost"]
    assert cost["memory_bytes"] == found["lora_adapter"].memory and cost["at_most"]["minutes"] is not None
    assert told["notes"] == [] and told["datasets"]["slice"]["total"]["memory_bytes"] == status_memory(told)
    shown = CliRunner().invoke(app, ["status", "slice"]).output
    assert "GB" in shown and "an estimate" in shown


def status_memory(told: dict) -> int:  # type: ignore[type-arg]
    stages = told["datasets"]["slice"]["assets"].values()
    return max(stage["cost"]["memory_bytes"] or 0 for stage in stages)


def test_a_model_that_is_not_here_yet_is_estimated_by_its_published_sizes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _ = world
    monkeypatch.delenv("RALLREC_SETTINGS")
    speeds = Speeds(lake, load_settings("paper"), "once", pytest.fail)
    found = assets(speeds)
    command = "`rallrec run DATASET --select predictor`"
    assert speeds.notes == [f"no calibration: the model is not in the lake yet ({command} fetches it)"]
    assert found["predictor"].state == "missing"
    described = found["item_descriptions"]
    assert described.cost.basis == DEFAULT and described.cost.at_most.rows == ITEMS
    assert (described.cost.at_most.seconds or 0) > 0 and (described.memory or 0) > 16e9
    assert 30e9 < (found["lora_adapter"].memory or 0) < 45e9
    unknown = load_settings("paper")
    unknown = unknown.model_copy(update={"model": unknown.model.model_copy(update={"source": "some/other"})})
    speeds = Speeds(lake, unknown, "once", pytest.fail)
    assert assets(speeds)["item_descriptions"].memory is None


def test_a_dataset_of_which_nothing_was_made_is_bounded_by_the_settings_and_its_own_figures(
    tmp_path: Path, built_in_settings_only: None
) -> None:
    settings = load_settings("demo")
    found = assets(Speeds(tmp_path / "lake", settings), "movielens-100k")
    assert found["item_descriptions"].cost.at_most.rows == found["title_embeddings"].cost.at_most.rows == 1349
    assert found["lora_adapter"].cost.at_most.rows == 256 * (3 + 3)
    assert found["predictions"].cost.at_most.rows == 3 * (1000 + 200)
    assert not found["predictions"].cost.is_exact and (found["predictions"].memory or 0) > 1e9
    # What such a run asks for, by the mean of 97 tokens of the prompts of `rallrec`.
    for name, took in (("title_embeddings", 31_000), ("lora_adapter", 149_000), ("predictions", 349_000)):
        assert found[name].cost.at_most.tokens == pytest.approx(took, rel=0.35), name
    assert not (tmp_path / "lake").exists()


def test_a_retriever_that_shows_more_makes_longer_prompts(tmp_path: Path, built_in_settings_only: None) -> None:
    settings = load_settings("demo")
    own = settings.model_copy(update={"retrievers": {"mixture": RetrieverSettings(k=50)}})
    few, many = (list(long_prompts(tmp_path, each, None)) for each in (settings, own))
    assert [prompt.what for prompt in few] == [prompt.what for prompt in many]
    asked = {prompt.what: (prompt, other) for prompt, other in zip(few, many, strict=True)}
    for what in ("evaluation prompts", "tuning prompts"):
        prompt, other = asked[what]
        assert other.tokens - prompt.tokens == 45 * HISTORY_TOKENS, "45 items more than the demo's five"
        assert (prompt.advice, other.advice) == ("retrieval.history_length", "retrievers.mixture.k")
    few_cost, many_cost = (assets(Speeds(tmp_path / "lake", each), "movielens-100k") for each in (settings, own))
    for stage in ("lora_adapter", "predictions"):
        assert (many_cost[stage].cost.at_most.tokens or 0) > 3 * (few_cost[stage].cost.at_most.tokens or 0), stage


def test_a_damaged_calibration_is_measured_again(world: World) -> None:
    lake, settings = world
    found = Speeds(lake, settings, "once").calibration()
    assert found is not None
    file = calibration_file(lake, found.key)
    write_json(file, {"key": 1})
    assert Speeds(lake, settings).calibration() is None
    again = Speeds(lake, settings, "once").calibration()
    assert again is not None and read_json(file)["seconds"] == again.seconds


def test_status_with_a_stored_calibration_loads_no_heavy_package(world: World) -> None:
    lake, settings = world
    Speeds(lake, settings, "once").calibration()
    code = (
        "import sys; from typer.testing import CliRunner; from rallrec_pipeline.cli import app; "
        "done = CliRunner().invoke(app, ['status', 'slice']); print(done.output); "
        "print(sorted({'torch', 'transformers', 'sklearn', 'faiss', 'dagster'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
    assert "title_embeddings" in done.stdout and not all_records(lake, "slice", "title_embeddings")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Footprints here are those of a processor, on a machine with a GPU too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
