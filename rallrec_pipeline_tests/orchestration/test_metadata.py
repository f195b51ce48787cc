"""What the UI shows of assets and of what was made: kinds, tags, columns, and figures that it can plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from rallrec_pipeline.lake import tables as lake_tables
from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.lake.tables import COLUMNS, OPEN_FIELD, Table, embeddings_table, predictions_table, prompts_table
from rallrec_pipeline.orchestration.build import KINDS, build_definitions
from rallrec_pipeline.orchestration.metadata import dagster_metadata
from rallrec_pipeline.orchestration.resources import Project
from rallrec_pipeline.pipeline.graph import EVERY_STAGE

USAGE = {"rows": 5, "prompt_tokens": 70, "new_tokens": 30}


def record(*files: str, **metadata: Any) -> Record:
    """Of a stage that took four seconds."""
    return Record("items", "shop", "f", "v", {}, {}, "1", "run", "now", 4.0, outputs=list(files), metadata=metadata)


def test_figures_of_the_llm_are_numbers(tmp_path: Path) -> None:
    shown = dagster_metadata(record(rows=5, llm=USAGE), tmp_path, worked=True)
    assert shown["tokens_per_second"] == 25.0 and shown["seconds"] == 4.0 and shown["dagster/row_count"] == 5
    assert [shown[f"llm_{name}"] for name in USAGE] == [5, 70, 30]


def test_a_stage_that_did_nothing_shows_no_speed_and_no_tokens_and_what_making_took(tmp_path: Path) -> None:
    shown = dagster_metadata(record(rows=5, llm=USAGE, tokens_per_second=9.0), tmp_path, worked=False)
    assert "tokens_per_second" not in shown and not any(f"llm_{name}" in shown for name in USAGE)
    assert shown["seconds"] == 4.0 and set(shown["llm"].data.values()) == {0}


def test_what_happened_and_how_to_make_it_anew_are_told_in_words(tmp_path: Path) -> None:
    known = record(why=["items changed", "the code changed"])
    worked, idle = (dagster_metadata(known, tmp_path, worked) for worked in (True, False))
    assert worked["what_happened"] == "made in 4.0 s, because: items changed; the code changed"
    assert idle["what_happened"].startswith("up to date, nothing to do: made at now in 4.0 s by run run")
    assert "why" not in idle
    assert "`rallrec run shop --select items --force`" in idle["make_anew"].value
    assert "ops: {items: {config: {force: true}}}" in idle["make_anew"].value


def test_figures_by_name_are_numbers_that_the_ui_can_plot(tmp_path: Path) -> None:
    parts = {"splits": {"train": 3, "test": 1}, "liked": {"train": 0.5}, "weights": {"text": None, "on": True}}
    shown = dagster_metadata(
        record(**parts, many={str(n): n for n in range(99)}), tmp_path, worked=True, profile="full"
    )
    assert (shown["splits_train"], shown["splits_test"], shown["liked_train"]) == (3, 1, 0.5)
    assert not any(name.startswith(("weights_", "many_")) for name in shown)


def test_figures_of_a_report_of_one_profile_are_no_history_of_another(tmp_path: Path) -> None:
    report = replace(record(auc_rallrec=0.7, why=["never made"]), stage="evaluation_report")
    demo, full = (dagster_metadata(report, tmp_path, True, profile) for profile in ("demo", "full"))
    assert demo["auc_rallrec (demo)"] == full["auc_rallrec (full)"] == 0.7 and "auc_rallrec" not in demo


def test_a_speed_that_the_stage_measured_itself_is_kept(tmp_path: Path) -> None:
    assert dagster_metadata(record(llm=USAGE, tokens_per_second=9.0), tmp_path, worked=True)["tokens_per_second"] == 9.0
    # One that had no row to compute has none; a word among the numbers would break the plot.
    nothing = dict.fromkeys(USAGE, 0)
    assert "tokens_per_second" not in dagster_metadata(record(llm=nothing, tokens_per_second=None), tmp_path, True)


def test_columns_are_shown_with_what_they_hold(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["i"], "colour": ["red"]}).write_parquet(tmp_path / "items.parquet")
    schema = dagster_metadata(record("items.parquet", rows=1), tmp_path, worked=True)["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert [(c.name, c.type, c.description) for c in schema.columns] == [
        ("item_id", "String", COLUMNS["item_id"]),
        ("colour", "String", OPEN_FIELD),
    ]


def test_every_column_of_every_table_is_described_and_no_other() -> None:
    named = [table for table in vars(lake_tables).values() if isinstance(table, Table)]
    tables = [*named, prompts_table("tuning"), embeddings_table("text"), predictions_table("rallrec")]
    assert {name for table in tables for name in table.columns} == set(COLUMNS)


def test_assets_say_what_computes_them_and_whether_they_need_the_llm(tmp_path: Path) -> None:
    assert set(KINDS) <= {stage.name for stage in EVERY_STAGE.values() if not stage.uses_llm}
    graph = build_definitions(project=Project(lake=str(tmp_path))).resolve_asset_graph()
    for name, stage in EVERY_STAGE.items():
        asset = graph.get(dg.AssetKey(name))
        assert ("llm" in asset.kinds) == stage.uses_llm == (asset.tags["rallrec/uses_llm"] == "true")
        assert asset.owners == ["team:rallrec"]
    assert graph.get(dg.AssetKey("collaborative_embeddings")).kinds == {"pytorch"}
