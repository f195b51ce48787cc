"""The lineage of an item against the files themselves, in a lake whose LLM is tiny."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.descriptions import description_prompt, template_of
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.store import Record, read_record
from rallrec_pipeline.lake.vectors import vector_version, vectors_of
from rallrec_pipeline.pipeline.graph import GRAPH, STAGES
from rallrec_pipeline.pipeline.lineage import model
from rallrec_pipeline.pipeline.lineage.chain import as_json, trace
from rallrec_pipeline.pipeline.lineage.model import Lineage
from rallrec_pipeline.settings import ROLES, load_settings
from rallrec_pipeline_tests.conftest import REPOSITORY
from rallrec_pipeline_tests.pipeline.given import in_force_now, make_stages
from rallrec_pipeline_tests.pipeline.tiny import SMALL, TITLE, ratings_file, replace_once

NAME, ITEM = SMALL, "i3"
KINDS = ("title", "description", "text", "collaborative", "aligned", "item")
DATA = [stage.name for stage in GRAPH if stage.group in ("raw", "data")]


@pytest.fixture
def lake(finished_lake: Path) -> Path:
    """What the whole job has made of one dataset."""
    return finished_lake


def edit(lake: Path, file: str, old: str, new: str) -> None:
    replace_once(ratings_file(lake, NAME).with_name(file), old, new)


def find(lake: Path, item: str = ITEM, at: str | None = None, dataset: str = NAME) -> Lineage:
    return trace(lake, dataset, item, load_settings(), at)


def rows_of(lake: Path, table: tables.Table) -> pl.DataFrame:
    return read_table(table, lake, NAME)


def vectors(lake: Path, kind: str) -> dict[str, np.ndarray[Any, Any]]:
    table = rows_of(lake, tables.embeddings_table(kind))
    return dict(zip(table["item_id"], vectors_of(table), strict=True))


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_raw_lines_hold_the_item(lake: Path) -> None:
    raw = find(lake).raw
    assert raw.item and raw.ratings and raw.changed_since is False and not raw.same_file and not raw.notes
    lines = (lake / raw.item.file).read_text(encoding="utf-8").split("\n")
    assert [lines[line["line"] - 1] for line in raw.item.lines] == [f"{ITEM},{TITLE}"] and raw.item.count == 1
    lines = (lake / raw.ratings.file).read_text(encoding="utf-8").split("\n")
    naming = [number for number, line in enumerate(lines, 1) if line.split(",")[1:2] == [ITEM]]
    assert raw.ratings.count == len(naming) and [line["line"] for line in raw.ratings.lines] == naming[:3]


def test_ratings_and_fields_are_those_of_the_tables(lake: Path) -> None:
    found = find(lake)

    def count(table: tables.Table) -> int:
        return rows_of(lake, table).filter(pl.col("item_id") == ITEM).height

    ratings = found.ratings
    assert ratings.raw == ratings.accepted == ratings.core == count(tables.CORE_INTERACTIONS) > 3
    assert ratings.fitted == count(tables.FITTED_INTERACTIONS)
    assert ratings.training is not None and ratings.core >= ratings.training >= ratings.fitted
    assert ratings.samples is not None and sum(ratings.samples.values()) == count(tables.SAMPLES)
    assert (found.item.fields, found.item.in_catalogue, found.item.in_core) == ({"title": TITLE}, True, True)


def test_the_description_says_what_was_asked_and_by_which_hash(lake: Path) -> None:
    found, settings = find(lake).description, load_settings()
    row = rows_of(lake, tables.ITEM_DESCRIPTIONS).filter(pl.col("item_id") == ITEM).row(0, named=True)
    assert found.text == row["description"] and found.status == row["status"] and found.stored_in == "table"
    assert {name: row[name] for name in asdict(found.provenance)} == asdict(found.provenance)
    assert stable_hash(found.text) == found.provenance.data_version and not found.notes
    spec = get_dataset(NAME, lake)
    assert found.prompt == description_prompt({"title": TITLE}, spec, settings.descriptions)
    assert found.template == template_of(spec, settings.descriptions) and found.seed == settings.seeds.sampling
    assert found.sampling == {
        name: getattr(settings.descriptions, name) for name in ("max_words", "max_new_tokens", "temperature", "top_p")
    }


def test_hashes_and_norms_are_those_of_the_vectors(lake: Path) -> None:
    found = find(lake).vectors
    assert list(found) == list(KINDS)
    for kind, vector in found.items():
        stored = vectors(lake, kind)[ITEM]
        assert vector.provenance.data_version == vector_version(stored.astype("<f4").tobytes()), kind
        assert vector.norm == pytest.approx(float(np.linalg.norm(stored.astype(np.float64))), rel=1e-6)
        assert (vector.dimensions, vector.stored_in, vector.verified) == (len(stored), "table", True)


def test_neighbours_are_those_of_brute_force(lake: Path) -> None:
    found, items = find(lake).index, rows_of(lake, tables.CORE_ITEMS)
    mixed, ids = vectors(lake, "item"), items["item_id"].to_list()
    assert (found.row, found.rows) == (ids.index(ITEM), len(ids))
    best = sorted((i for i in ids if i != ITEM), key=lambda i: -float(mixed[ITEM] @ mixed[i]))[:5]
    assert [near.item_id for near in found.neighbours] == best and not found.notes
    titles = dict(items.select("item_id", "title").iter_rows())
    for near in found.neighbours:
        assert near.similarity == pytest.approx(float(mixed[ITEM] @ mixed[near.item_id]), abs=1e-5)
        assert ids[near.row] == near.item_id and titles[near.item_id] == near.title
        for part, value in near.parts.items():
            other = vectors(lake, part)
            assert value == pytest.approx(cosine(other[ITEM], other[near.item_id]), abs=1e-5), part
    record = in_force_now(lake, NAME, "item_embeddings")
    assert found.weights == record.metadata["weights"]


def test_uses_are_counted_as_the_prompts_show_them(lake: Path) -> None:
    """The title of the item stands in exactly the prompts that are said to name it."""
    uses = find(lake).uses
    tuning = rows_of(lake, tables.prompts_table("tuning"))
    named = tuning.filter(pl.col("prompt").str.contains("Third", literal=True))
    assert uses.tuning_prompts and uses.tuning_prompts["all"] == named.height > 0
    assert uses.tuning_prompts["as_target"] == tuning.filter(pl.col("item_id") == ITEM).height
    assert [adapter.name for adapter in uses.adapters] == ["recent", "rallrec"]
    for adapter in uses.adapters:
        told = json.loads((lake / "checkpoints" / NAME / adapter.name / "provenance.json").read_text(encoding="utf-8"))
        of_adapter = named.filter(pl.col("prompt_form").is_in(told["prompt_forms"]))
        assert adapter.prompts == of_adapter.height and adapter.run_id == told["run_id"]
        assert adapter.validation_auc == told["tuning"]["epochs"][0]["validation_auc"]
        assert adapter.base_model == told["base_model"]


def test_predictions_are_those_of_the_tables(lake: Path) -> None:
    uses = find(lake).uses
    asked = rows_of(lake, tables.RETRIEVED_HISTORIES)
    targets = asked.filter(pl.col("item_id") == ITEM)
    assert uses.histories and uses.histories.target == dict(targets["split"].value_counts().iter_rows())
    assert len(uses.predictions) == 17
    for one in uses.predictions:
        scored = rows_of(lake, tables.predictions_table(one.method)).join(targets, on="sample_id", how="semi")
        assert sum(one.targets.values()) == scored.height
        for split, mean in one.mean_p_yes.items():
            values = scored.filter(pl.col("split") == split)["p_yes"].to_list()
            assert len(values) == one.targets[split] and mean == pytest.approx(sum(values) / len(values))
    tuned = next(one for one in uses.predictions if one.method == "rallrec")
    shown = asked.filter(pl.col("reranked").list.contains(ITEM) & (pl.col("split") == "test")).height
    assert tuned.in_history is not None and tuned.in_history["test"] == shown > 0
    assert uses.histories.shown["reranked"]["test"] == shown
    evaluation = rows_of(lake, tables.prompts_table("evaluation")).filter(
        (pl.col("prompt_form") == "reranked") & (pl.col("answer_form") == "rating") & (pl.col("split") == "test")
    )
    named = evaluation.filter(pl.col("prompt").str.contains("Third", literal=True) & (pl.col("item_id") != ITEM))
    assert named.height == shown


def test_steps_have_the_runs_and_fingerprints_of_the_records(lake: Path) -> None:
    stages = find(lake).stages
    assert {"raw_files", "users", *ROLES, "item_index", "lora_adapter", "predictions"} <= set(stages)
    assert list(stages) == [name for name in STAGES if name in stages] and "evaluation_report" not in stages
    for name, step in stages.items():
        record = in_force_now(lake, NAME, name)
        assert (step.run_id, step.created_at) == (record.run_id, record.created_at)
        assert (step.fingerprint, step.data_version) == (record.fingerprint, record.data_version)
        assert step.fresh and not step.reasons and not step.waits_for


def test_a_changed_setting_makes_its_stage_stale_and_names_it_after(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    text = Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    other.write_text(text.replace("pca_dimensions = 4", "pca_dimensions = 3"), encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(other))
    stages = find(lake).stages
    assert stages["text_embeddings"].reasons == ["setting text.pca_dimensions changed"]
    assert [name for name, step in stages.items() if step.reasons] == ["text_embeddings", "new_item_embeddings"]
    assert stages["aligned_embeddings"].waits_for == ["text_embeddings"]
    assert stages["predictions"].waits_for == ["evaluation_prompts", "lora_adapter"]
    assert all(stages[name].fresh for name in ("title_embeddings", "collaborative_embeddings", "samples"))


def test_the_command_prints_text_of_the_data_as_text(lake: Path) -> None:
    result = CliRunner().invoke(app, ["lineage", NAME, ITEM])
    assert result.exit_code == 0, result.output
    record = in_force_now(lake, NAME, "predictions")
    assert TITLE in result.output and record.run_id[:8] in result.output
    for word in ("Raw line", "Description", "LightGCN", "nearest neighbours", "validation AUC", "mean P(yes)"):
        assert word in result.output
    rare = CliRunner().invoke(app, ["lineage", NAME, "i77"]).output
    assert "Rare" in rare and "\x1b" not in rare and "\u202e" not in rare


def test_json_is_one_document_with_the_documented_keys(lake: Path) -> None:
    result = CliRunner().invoke(app, ["lineage", NAME, ITEM, "--json"])
    assert result.exit_code == 0 and result.stdout.isascii()
    assert json.loads(result.stdout) == json.loads(as_json(find(lake)))
    page = (REPOSITORY / "docs" / "lineage.md").read_text(encoding="utf-8")
    parts = [part for part in vars(model).values() if is_dataclass(part)]
    keys = {field.name for part in parts if isinstance(part, type) for field in fields(part)}
    assert not [key for key in keys if f"`{key}`" not in page]


def test_an_item_outside_the_core_ends_there(lake: Path) -> None:
    rare, unrated = find(lake, "i77"), find(lake, "i88")
    assert (rare.item.in_core, rare.ratings.accepted, rare.ratings.core) == (False, 1, 0)
    assert rare.ends and rare.ends.stage == "core_items" and "it has 1 rating" in rare.ends.reason
    assert unrated.ends and "it has 0 ratings" in unrated.ends.reason and unrated.item.in_catalogue
    assert rare.description.text is None and rare.index.row is None
    assert rare.vectors["title"].notes == ["the item has no row in it"]
    result = CliRunner().invoke(app, ["lineage", NAME, "i88"])
    assert result.exit_code == 0 and "the chain ends here" in result.output and "Predictions" not in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((NAME, "i33"), ["no item 'i33'", "did you mean", "i3"]),
        ((NAME, "third"), ["no item 'third'", f"i3 ({TITLE})"]),
        ((NAME, "i3\x1b"), ["no item 'i3'"]),
        ((NAME, ""), ["no item ''"]),
        (("nothing", "i3"), ["unknown dataset 'nothing'"]),
        (("bookcrossing", "i3"), ["nothing of 'bookcrossing' has been made", "rallrec run bookcrossing"]),
        ((NAME, "i3", "--at", "no-such-run"), ["no record is of a run 'no-such-run'", "the newest"]),
    ],
)
def test_mistakes_are_one_clear_line(lake: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    result = CliRunner().invoke(app, ["lineage", *arguments])
    assert isinstance(result.exception, ConfigError) and result.exit_code == 1
    message = str(result.exception)
    assert "\n" not in message and "\x1b" not in message and all(word in message for word in words), message


def test_an_unknown_run_is_told_the_known_ones_and_a_prefix_is_enough(lake: Path) -> None:
    record = in_force_now(lake, NAME, "samples")
    with pytest.raises(ConfigError, match=record.run_id):
        find(lake, at="no-such-run")
    found = find(lake, at=record.run_id[:8])
    assert found.at and found.at.run_id == record.run_id and found.description.text


def test_the_chain_ends_where_stages_were_never_made(copy: Path) -> None:
    toml = (copy / "catalog" / f"{NAME}.toml").read_text(encoding="utf-8")
    (copy / "catalog" / "part.toml").write_text(toml, encoding="utf-8")
    make_stages(copy, "part", load_settings(), *DATA)
    found = find(copy, dataset="part")
    assert found.ends and (found.ends.stage, found.ends.command) == ("item_descriptions", "rallrec run part")
    assert found.ratings.core and found.ratings.fitted is None and found.uses.predictions == []
    assert found.stages["item_index"].reasons == ["never made"] and not found.index.notes
    result = CliRunner().invoke(app, ["lineage", "part", ITEM])
    assert result.exit_code == 0 and "rallrec run part" in result.output and "Index" not in result.output


def test_items_out_of_the_file_of_the_ratings(copy: Path) -> None:
    folder = copy / "files" / "orders"
    folder.mkdir()
    lines = (copy / "files" / NAME / "ratings.csv").read_text(encoding="utf-8").splitlines()
    rows = [f"{line},Name of {line.split(',')[1]}" for line in lines[1:]]
    (folder / "ratings.csv").write_text("\n".join([f"{lines[0]},name", *rows, ""]), encoding="utf-8")
    toml = (copy / "catalog" / f"{NAME}.toml").read_text(encoding="utf-8")
    own = toml.replace(f"files/{NAME}", "files/orders").replace("items.csv", "ratings.csv").replace('"title"', '"name"')
    (copy / "catalog" / "orders.toml").write_text(f"max_rejected = 1\n{own}", encoding="utf-8")
    make_stages(copy, "orders", load_settings(), *DATA)
    raw = find(copy, dataset="orders").raw
    assert raw.same_file and raw.item == raw.ratings and raw.item is not None and raw.item.count > 1
    assert "the file of the ratings" in raw.notes[0]


def test_an_earlier_state_is_told_as_it_was(copy: Path) -> None:
    before = find(copy)
    first = before.stages["predictions"].run_id
    edit(copy, "items.csv", TITLE, "Another third title")
    names = [*DATA, *(f"{kind}_embeddings" for kind in KINDS), "item_descriptions", "item_index"]
    assert make_stages(copy, NAME, load_settings(), *names)["title_embeddings"]
    run_id = in_force_now(copy, NAME, "title_embeddings").run_id
    now, then = find(copy), find(copy, at=first)
    assert then.at and then.at.run_id == first and then.raw.changed_since and then.raw.notes
    assert now.item.fields == {"title": "Another third title"} and now.raw.changed_since is False
    assert then.item == before.item and then.ratings.core == before.ratings.core
    assert now.description.prompt != then.description.prompt == before.description.prompt
    assert then.description == before.description and then.vectors == before.vectors
    assert then.index == before.index and then.uses == before.uses
    for kind in ("title", "text", "aligned", "item"):
        assert now.vectors[kind].provenance.run_id == run_id, kind
        assert now.vectors[kind].provenance != before.vectors[kind].provenance
    assert then.stages["item_index"].reasons[0].startswith(f"made again by run {run_id}")
    assert not now.stages["predictions"].fresh and not now.stages["item_index"].reasons
    # What has gone of it is said, never guessed.
    records = {name: read_record(copy, NAME, name, step.fingerprint or "") for name, step in then.stages.items()}
    (table,) = [path for path in _record(records["item_embeddings"]).paths(copy) if path.is_dir()]
    shutil.rmtree(table)
    shutil.rmtree(_record(records["text_embeddings"]).folder(copy))
    lost = find(copy, at=first)
    assert lost.stages["text_embeddings"].reasons == ["rallrec prune has removed it"]
    vector = lost.vectors["item"]
    assert (vector.stored_in, vector.dimensions) == (None, None) and "not stored any more" in vector.notes[0]
    assert vector.provenance == before.vectors["item"].provenance
    assert lost.description == before.description and lost.vectors["title"] == before.vectors["title"]
    assert any("left out" in note for note in lost.index.notes)


def _record(record: Record | None) -> Record:
    assert record is not None
    return record


def test_adapters_and_an_index_of_other_settings(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = find(copy)
    other = tmp_path / "other.toml"
    text = Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    index = '\n[index]\nkind = "ivf"\nprobes = 10\n'
    other.write_text(text.replace("[tuning]", "[tuning]\nrank = 4") + index, encoding="utf-8")
    monkeypatch.setenv("RALLREC_SETTINGS", str(other))
    assert make_stages(copy, NAME, load_settings(), "item_index", "lora_adapter", "predictions")["lora_adapter"]
    now, then = find(copy), find(copy, at=before.stages["predictions"].run_id)
    assert now.stages["item_index"].figures["index"] == "ivf"
    assert [near.item_id for near in now.index.neighbours] == [near.item_id for near in before.index.neighbours]
    run_id = in_force_now(copy, NAME, "lora_adapter").run_id
    assert {adapter.run_id for adapter in now.uses.adapters} == {run_id} != {before.stages["lora_adapter"].run_id}
    assert then.uses == before.uses and then.index == before.index
    adapters = _record(read_record(copy, NAME, "lora_adapter", then.stages["lora_adapter"].fingerprint or ""))
    for path in adapters.paths(copy):
        shutil.rmtree(path)
    lost = find(copy, at=before.stages["predictions"].run_id).uses.adapters
    assert [(one.run_id, one.stored_in) for one in lost] == [(None, None)] * 2
    assert [one.validation_auc for one in lost] == [one.validation_auc for one in before.uses.adapters]


def test_an_item_that_has_gone_is_told_and_found_in_its_time(copy: Path) -> None:
    first = find(copy)
    edit(copy, "items.csv", f"{ITEM},{TITLE}\n", "")
    file = ratings_file(copy, NAME)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if f",{ITEM}," not in line), encoding="utf-8")
    make_stages(copy, NAME, load_settings(), *DATA, "item_descriptions")
    run_id = first.stages["predictions"].run_id
    with pytest.raises(ConfigError, match=f"add `--at {run_id}`"):
        find(copy)
    then = find(copy, at=run_id)
    assert then.description.text == first.description.text and then.raw.item and then.raw.item.count == 0


def test_what_was_edited_by_hand_is_seen(copy: Path) -> None:
    file = tables.ITEM_DESCRIPTIONS.file(copy, NAME)
    table = pl.read_parquet(file)
    wrong = pl.when(pl.col("item_id") == ITEM).then(pl.lit("Forged.")).otherwise("description").alias("description")
    table.with_columns(wrong).write_parquet(file)
    for shard in shard_files(tables.embeddings_table("title").file(copy, NAME)):
        rows = pl.read_parquet(shard)
        other = pl.Series("vector", vectors_of(rows) + 1, dtype=rows.schema["vector"])
        rows.with_columns(other).write_parquet(shard)
    found = find(copy)
    assert found.description.text == "Forged." and "edited" in found.description.notes[0]
    assert found.vectors["title"].verified is False and found.vectors["description"].verified is True
    assert found.stages["item_descriptions"].reasons == ["its files were edited"]


def test_the_command_starts_without_dagster_and_torch() -> None:
    code = (
        "import sys, rallrec_pipeline.cli, rallrec_pipeline.pipeline.lineage.chain, "
        "rallrec_pipeline.pipeline.lineage.page; print({'dagster', 'torch', 'faiss'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
