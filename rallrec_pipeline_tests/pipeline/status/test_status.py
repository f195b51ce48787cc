"""Status: what is stale and why, and that the rows it promises are those that a run then asks the LLM for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, SCORES
from rallrec_pipeline.lake.store import Record, all_records
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES
from rallrec_pipeline.pipeline.status.cost import DEFAULT, DEFAULT_SPEED, OTHERS, THIS_DATASET, Work, work_of
from rallrec_pipeline.pipeline.status.status import AssetStatus, DatasetStatus, dataset_status
from rallrec_pipeline.pipeline.status.table import catching_up
from rallrec_pipeline.settings import ROLES, Settings, load_settings
from rallrec_pipeline_tests.lake.test_locks import hold
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, copied_world, ratings_file, use_lake, write_ratings

ITEMS, CATALOGUE = 10, 12
LLM_STAGES = ("item_descriptions", "title_embeddings", "description_embeddings", "lora_adapter", "predictions")


@dataclass
class Project:
    """A lake with one finished dataset, and settings to change."""

    lake: Path
    settings: Settings

    def changed(self, **sections: dict[str, Any]) -> Project:
        values = {name: getattr(self.settings, name).model_copy(update=update) for name, update in sections.items()}
        return replace(self, settings=self.settings.model_copy(update=values))

    def run(self, *names: str, dataset: str = SMALL) -> dict[str, bool]:
        return make_stages(self.lake, dataset, self.settings, *names)

    def record(self, stage: str) -> Record:
        """What is in force of a stage."""
        return in_force_now(self.lake, SMALL, stage)

    def status(self, dataset: str = SMALL) -> DatasetStatus:
        return dataset_status(self.lake, dataset, self.settings)

    def assets(self) -> dict[str, AssetStatus]:
        return {asset.asset: asset for asset in self.status().assets}

    def asked(self, stage: str) -> int:
        """Rows that were asked of the LLM for what is in force of a stage."""
        return 0 if (work := work_of(self.record(stage))) is None else work.rows


@pytest.fixture
def project(finished_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """What the whole job has made with a tiny LLM, as a copy of the test's own."""
    lake, settings = copied_world(finished_world, tmp_path), tmp_path / "settings.toml"
    shutil.copy(finished_world / "settings.toml", settings)
    use_lake(lake, settings, monkeypatch)
    return Project(lake, load_settings())


def test_what_is_made_is_fresh_and_costs_nothing(project: Project) -> None:
    status = project.status()
    assert [asset.asset for asset in status.assets] == [stage.name for stage in GRAPH]
    assert {asset.state for asset in status.assets} == {"fresh"}
    assert status.total.at_most == status.total.now and status.total.at_most.tokens == 0
    assert catching_up(status) == "everything is up to date" and not status.held and status.error is None


def test_it_is_quick_and_loads_no_heavy_package(project: Project) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from rallrec_pipeline.cli import app; "
        "done = CliRunner().invoke(app, ['status', '--json']); print(done.output); "
        "print(sorted({'torch', 'transformers', 'sklearn', 'faiss', 'dagster'} & set(sys.modules)), file=sys.stderr); "
        "sys.exit(done.exit_code)"
    )
    start = os.times().children_user
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.strip() == "[]"
    assert os.times().children_user - start < 5
    told = json.loads(done.stdout)
    assert told["profile"] == "demo" and told["datasets"][SMALL]["assets"]["predictions"]["state"] == "fresh"


def test_a_new_template_is_told_with_its_rows_and_what_waits(project: Project) -> None:
    edited = project.changed(descriptions={"template": "Say what this {item} is. {fields}"})
    assets = edited.assets()
    described = assets["item_descriptions"]
    assert (described.state, described.reasons) == ("stale", ["setting descriptions.template changed"])
    assert described.increment and described.increment.stale == ITEMS and described.increment.new == 0
    assert described.cost.at_most.rows == described.cost.now.rows == ITEMS and described.cost.is_exact
    record = project.record("item_descriptions")
    usage = record.metadata["llm"]
    assert described.cost.now.tokens == usage["prompt_tokens"] + usage["new_tokens"] > 0
    assert described.cost.basis == THIS_DATASET
    assert described.cost.now.seconds == pytest.approx(record.seconds, abs=0.1)
    assert assets["title_embeddings"].state == assets["samples"].state == "fresh"
    encoded = assets["description_embeddings"]
    assert (encoded.state, encoded.reasons, encoded.waits_for) == ("stale", [], ["item_descriptions"])
    assert (encoded.cost.now.rows, encoded.cost.at_most.rows) == (0, ITEMS)
    assert assets["predictions"].waits_for == ["evaluation_prompts", "lora_adapter"]
    text = assets["text_embeddings"].cost
    assert text.now.seconds == 0 < (text.at_most.seconds or 0)
    words = catching_up(edited.status())
    assert "at most" in words and "if what waits turns out unchanged" in words and "estimate" in words
    edited.run("item_descriptions")
    assert edited.asked("item_descriptions") == ITEMS
    # This LLM writes nothing of use, so the same plain sentences stand in, and nothing after them has changed.
    assert edited.assets()["description_embeddings"].state == "fresh"
    assert {asset.state for asset in project.status().assets} == {"fresh"}, "both are there, side by side"
    assert not project.run("item_descriptions")["item_descriptions"]
    assert project.record("item_descriptions") == record


def test_one_changed_item_is_one_row(project: Project, tmp_path: Path) -> None:
    own = own_files(project, tmp_path)
    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("Title 4", "Another Title"), encoding="utf-8")
    assets = project.assets()
    assert assets["raw_files"].reasons == ["setting state changed"] and assets["raw_files"].waits_for == []
    waiting = [name for name, asset in assets.items() if asset.state == "stale"]
    assert set(waiting) == set(STAGES) - set(ROLES)
    assert assets["title_embeddings"].cost.at_most.rows == ITEMS and assets["title_embeddings"].cost.now.rows == 0
    assert assets["lora_adapter"].cost.now.rows == 0 < (assets["lora_adapter"].cost.at_most.rows or 0)
    project.run(*(stage.name for stage in GRAPH if stage.group in ("raw", "data")))
    assets = project.assets()
    assert assets["samples"].state == "fresh"
    for name in ("item_descriptions", "title_embeddings"):
        assert assets[name].cost.now.rows == 1 and assets[name].cost.is_exact, name
        increment = assets[name].increment
        assert increment and (increment.new, increment.stale, increment.orphaned) == (0, 1, 0)
    encoded = assets["description_embeddings"].cost
    assert (encoded.now.rows, encoded.at_most.rows) == (0, 1), "all other descriptions are known"
    project.run("item_descriptions", "title_embeddings")
    assert project.asked("item_descriptions") == project.asked("title_embeddings") == 1
    encoded = project.assets()["description_embeddings"]
    # The plain sentence that stands in is what the title's vector was made of, so it is known.
    assert "item_descriptions changed" in encoded.reasons and encoded.cost.is_exact and encoded.cost.now.rows == 0
    project.run("description_embeddings")
    assert project.asked("description_embeddings") == 0
    own.write_text(text, encoding="utf-8")
    project.run("raw_files")
    assert {asset.state for asset in project.status().assets} == {"fresh"}, "what was made of it before is there"


def test_predictions_count_the_prompts_that_were_never_scored(project: Project) -> None:
    edited = project.changed(scoring={"calibration": "none"})
    predicted = edited.assets()["predictions"]
    assert predicted.reasons == ["setting calibration changed"] and predicted.cost.at_most.rows == 0
    Memo(project.lake, SCORES).path.unlink()
    predicted = edited.assets()["predictions"]
    assert predicted.cost.is_exact
    edited.run("predictions")
    assert edited.asked("predictions") == predicted.cost.now.rows > 0


def test_tuning_is_examples_times_epochs_and_zero_shot_methods_do_not_wait(project: Project) -> None:
    edited = project.changed(tuning={"rank": 2, "epochs": 2})
    assets = edited.assets()
    tuned, predicted = assets["lora_adapter"], assets["predictions"]
    prompts = pl.read_parquet(tables.prompts_table("tuning").file(project.lake, SMALL))
    recent = prompts.filter(pl.col("prompt_form") == "recent").height
    assert tuned.cost.is_exact and tuned.cost.now.rows == 2 * (3 * recent + prompts.height)
    assert predicted.waits_for == ["lora_adapter"] and predicted.cost.now.rows == 0
    asked = pl.read_parquet(tables.prompts_table("evaluation").file(project.lake, SMALL))
    of_tuned = asked.filter(pl.col("prompt_form").is_in(["recent", "reranked"]), pl.col("answer_form") == "rating")
    assert predicted.cost.at_most.rows == of_tuned.height
    edited.run("lora_adapter")
    assert edited.asked("lora_adapter") == tuned.cost.now.rows
    assert project.assets()["lora_adapter"].state == project.assets()["predictions"].state == "fresh"
    project.run("lora_adapter")
    record = project.record("lora_adapter")
    keys = {record.metadata[adapter]["key"] for adapter in ("recent", "rallrec")}
    homes = project.lake / "cache" / "adapters" / SMALL
    assert keys < {folder.name for folder in homes.glob("*/*")} and len(list(homes.glob("*/*"))) == 4
    # A result that has gone is made again of its adapters, without tuning.
    shutil.rmtree(record.folder(project.lake))
    lost = project.assets()["lora_adapter"]
    assert (lost.reasons, lost.cost.at_most.rows) == (["its result was removed"], 0)
    project.run("lora_adapter")
    assert project.record("lora_adapter").metadata["llm"]["rows"] == 0
    assert CliRunner().invoke(app, ["prune", SMALL, "--keep", "1"]).exit_code == 0
    assert {folder.name for folder in homes.glob("*/*")} >= keys


def test_lost_and_edited_files_and_what_was_never_made(project: Project) -> None:
    core = tables.CORE_ITEMS.file(project.lake, SMALL)
    pl.read_parquet(core).head(4).write_parquet(core)
    assets = project.assets()
    assert (assets["core_items"].state, assets["core_items"].reasons) == ("stale", ["its files were edited"])
    shutil.rmtree(project.record("core_items").folder(project.lake))
    assets = project.assets()
    assert (assets["core_items"].state, assets["core_items"].reasons) == ("missing", ["its result was removed"])
    described = assets["item_descriptions"]
    assert described.state == "stale" and described.cost.at_most.rows == CATALOGUE, "at most the catalogue"
    assert not described.cost.is_exact
    for folder in ("results", "refs"):
        shutil.rmtree(project.lake / folder / SMALL)
    status = project.status()
    assert {asset.state for asset in status.assets if asset.asset not in ROLES} == {"missing"}
    assert status.assets[0].reasons == ["never made"]


def test_a_damaged_table_does_not_hide_the_rest(project: Project) -> None:
    Memo(project.lake, DESCRIPTIONS).path.write_bytes(b"damaged")
    edited = project.changed(descriptions={"max_words": 5})
    described = edited.assets()["item_descriptions"]
    assert described.reasons == ["setting descriptions.max_words changed"] and described.cost.at_most.rows is None
    unknown = [asset for asset in edited.status().assets if asset.cost.at_most.rows is None]
    assert described in unknown
    assert f"more for {len(unknown)} assets of which nothing is known yet" in catching_up(edited.status())


def test_rates_come_from_other_datasets_or_are_stated_defaults(project: Project, tmp_path: Path) -> None:
    write_ratings(tmp_path / "lake", "other")
    text = (project.lake / "catalog" / f"{SMALL}.toml").read_text(encoding="utf-8")
    place = (project.lake / "files" / "other").as_posix()
    (project.lake / "catalog" / "other.toml").write_text(
        text.replace(text.split('location = "')[1].split('"')[0], place), encoding="utf-8"
    )
    data = [stage.name for stage in GRAPH if stage.group in ("raw", "data")]
    project.run(*data, dataset="other")
    assets = {asset.asset: asset for asset in project.status("other").assets}
    cost = assets["title_embeddings"].cost
    assert (cost.basis, assets["collaborative_embeddings"].cost.basis) == (OTHERS, OTHERS)
    assert cost.now.rows == 0 or cost.now.tokens
    for stage in LLM_STAGES:
        shutil.rmtree(project.lake / "results" / SMALL / stage)
    described = {asset.asset: asset for asset in project.status("other").assets}["item_descriptions"]
    assert described.cost.basis == DEFAULT and "by default figures" in catching_up(project.status("other"))
    amount = described.cost.at_most
    assert amount.seconds == pytest.approx((amount.tokens or 0) / DEFAULT_SPEED["item_descriptions"], abs=0.1)


def test_the_record_with_most_work_gives_the_rates(project: Project) -> None:
    record = project.record("title_embeddings")
    assert work_of(record) == Work(ITEMS, record.metadata["llm"]["prompt_tokens"], record.seconds)
    idle = {"rows_computed": 0, "llm": {"rows": 0, "prompt_tokens": 0, "new_tokens": 0}}
    assert work_of(replace(record, metadata={**record.metadata, **idle})) is None
    assert work_of(project.record("predictor")) is None


def test_a_run_under_way_is_named(project: Project) -> None:
    other = hold(project.lake, SMALL)
    try:
        result = CliRunner().invoke(app, ["status", SMALL])
        assert result.exit_code == 0
        assert f"under way: process {other.pid} on" in result.output and f"holds {SMALL}" in result.output
    finally:
        other.kill()
        other.wait()
    assert "under way" not in CliRunner().invoke(app, ["status"]).output


def test_the_command_prints_every_dataset_and_exits_with_zero(project: Project) -> None:
    (project.lake / "refs" / "gone").mkdir()
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0
    assert "unknown dataset 'gone'" in result.output and "everything is up to date" in result.output
    for stage in GRAPH:
        assert stage.name in result.output
    settings = Path(os.environ["RALLREC_SETTINGS"])
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("max_words = 8", "max_words = 9"), encoding="utf-8"
    )
    result = CliRunner().invoke(app, ["status", SMALL])
    assert result.exit_code == 0 and "descriptions.max_words" in result.output and "≤" in result.output
    told = json.loads(CliRunner().invoke(app, ["status", "--json"]).output)["datasets"]
    assert told["gone"]["error"].startswith("unknown dataset")
    described = told[SMALL]["assets"]["item_descriptions"]
    assert described["rows"]["stale"] == described["cost"]["at_most"]["rows"] == ITEMS
    total = told[SMALL]["total"]
    assert total["exact"] is False and total["at_most"]["minutes"] > 0
    assert result.output.count(f"{total['at_most']['tokens']:,}") == 1, "one sum is told once"


def test_mistakes_are_one_line(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["status", "no-such"], ["status", "--profile", "no-such"], ["prune", "no-such"]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, ConfigError) and "\n" not in str(result.exception)
    monkeypatch.setenv("RALLREC_LAKE", str(tmp_path / "empty"))
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0 and "nothing was made yet" in result.output
    assert not (tmp_path / "empty").exists()


def test_prune_prints_what_goes_and_the_lake_stays_fresh(project: Project) -> None:
    for words in (5, 6, 7):
        project.changed(descriptions={"max_words": words}).run("item_descriptions", "description_embeddings")
    project.run()
    dry = CliRunner().invoke(app, ["prune", SMALL, "--keep", "1", "--dry-run"])
    done = CliRunner().invoke(app, ["prune", SMALL, "--keep", "1"])
    assert dry.exit_code == done.exit_code == 0
    assert dry.output.replace("would remove", "removed") == done.output
    assert "results" in done.output and "cache/descriptions" in done.output
    assert all_records(project.lake, SMALL, "item_descriptions") == [project.record("item_descriptions")]
    assert catching_up(project.status()) == "everything is up to date"
    project.run()
    again = CliRunner().invoke(app, ["prune", "--keep", "1"])
    assert again.exit_code == 0 and "removed nothing" in again.output
    # No finished row was lost: without its records everything is made again from the caches.
    for stage in ("item_descriptions", "title_embeddings", "description_embeddings", "predictions"):
        shutil.rmtree(project.record(stage).folder(project.lake))
        assert project.run(stage)[stage]
        assert project.asked(stage) == 0, stage


def own_files(project: Project, tmp_path: Path) -> Path:
    """The raw files as a copy of this test's own; returns the one with the items."""
    catalogued = project.lake / "catalog" / f"{SMALL}.toml"
    text = catalogued.read_text(encoding="utf-8")
    location = text.split('location = "')[1].split('"')[0]
    shutil.copytree(location, tmp_path / "own")
    catalogued.write_text(text.replace(location, (tmp_path / "own").as_posix()), encoding="utf-8")
    assert ratings_file(project.lake, SMALL).name == "ratings.csv"
    project.run("raw_files", "interactions", "items", "users", "rejected_rows")
    return tmp_path / "own" / "items.csv"
