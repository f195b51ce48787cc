"""Only what changed is recomputed: items, templates and ratings of a slice of real data, with the real LLM."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rallrec_pipeline.orchestration.jobs import RunSummary, materialize_dataset
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline_tests.pipeline.given import in_force_now

TEXT_STAGES = ("item_descriptions", "title_embeddings", "description_embeddings")
# A text that says nothing is asked for once more.
CALLS = dict.fromkeys(TEXT_STAGES, (1,)) | {"item_descriptions": (1, 2)}
WANTED = [stage.name for stage in GRAPH if stage.group in ("raw", "data")] + ["writer", "encoder", *TEXT_STAGES]
NAME = "increments"


@pytest.fixture(scope="module")
def source(slice_lake: Path) -> Iterator[Path]:
    """A dataset of its own on the slice's files, so that other tests find theirs as they left it."""
    folder = slice_lake.parent / "source"
    own = slice_lake.parent / "own_source"
    own.mkdir()
    for file in folder.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    text = (slice_lake / "catalog" / "slice.toml").read_text(encoding="utf-8")
    catalogued = slice_lake / "catalog" / f"{NAME}.toml"
    catalogued.write_text(text.replace(folder.as_posix(), own.as_posix()), encoding="utf-8")
    yield own
    catalogued.unlink()


@pytest.fixture(scope="module")
def first(source: Path) -> RunSummary:
    return run()


def run() -> RunSummary:
    summary = materialize_dataset(NAME, WANTED)
    assert summary.error is None
    return summary


def reported(lake: Path, stage: str) -> dict[str, Any]:
    return dict(in_force_now(lake, NAME, stage).metadata)


def edit_items(source: Path, old: str, new: str) -> None:
    file = source / "slice.item"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_one_changed_item_costs_one_call_of_each_kind(first: RunSummary, source: Path, slice_lake: Path) -> None:
    items = pl.read_csv(source / "slice.item", separator="\t", quote_char=None, infer_schema=False)
    title = items["movie_title:token_seq"][3]
    edit_items(source, title, "An Entirely Different Title")
    summary = run()
    assert all(summary.worked[stage] for stage in TEXT_STAGES)
    for stage in TEXT_STAGES:
        figures = reported(slice_lake, stage)
        assert (figures["rows_stale"], figures["rows_computed"]) == (1, 1), stage
        assert figures["llm"]["rows"] in CALLS[stage], stage
        assert figures["rows_reused"] == items.height - 1 and figures["rows_new"] == figures["rows_orphaned"] == 0
    edit_items(source, "An Entirely Different Title", title)
    assert not any(run().worked[stage] for stage in TEXT_STAGES), "what was made of it before is still there"


def test_an_edited_template_that_is_reverted_costs_no_call(
    first: RunSummary, source: Path, slice_lake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = in_force_now(slice_lake, NAME, "description_embeddings")
    plain = Path(os.environ["RALLREC_SETTINGS"]).read_text(encoding="utf-8")
    edited = tmp_path / "edited.toml"
    template = 'template = "Say in {max_words} words what this {item} is about. {fields}"'
    edited.write_text(plain.replace("[descriptions]", f"[descriptions]\n{template}"), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("RALLREC_SETTINGS", str(edited))
        summary = run()
        assert summary.worked["item_descriptions"] and not summary.worked["title_embeddings"]
        figures = reported(slice_lake, "item_descriptions")
        assert figures["rows_stale"] == figures["rows_computed"] == 25
        assert figures["llm"]["rows"] in range(25, 51)
        assert any("descriptions.template" in reason for reason in figures["why"])
    assert not any(run().worked.values())
    assert in_force_now(slice_lake, NAME, "description_embeddings") == before
    # Without the results the rows are still finished: what is made again has the same content.
    for stage in ("item_descriptions", "description_embeddings"):
        shutil.rmtree(in_force_now(slice_lake, NAME, stage).folder(slice_lake))
    summary = run()
    for stage in ("item_descriptions", "description_embeddings"):
        figures = reported(slice_lake, stage)
        assert summary.worked[stage] and figures["why"] == ["its result was removed"]
        assert figures["rows_computed"] == figures["llm"]["rows"] == figures["llm"]["new_tokens"] == 0, stage
    assert in_force_now(slice_lake, NAME, "description_embeddings").data_version == before.data_version


def test_one_changed_rating_leaves_all_text_work_alone(first: RunSummary, source: Path, slice_lake: Path) -> None:
    file = source / "slice.inter"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    columns = lines[5].split("\t")
    columns[2] = "1" if columns[2].startswith(("2", "3", "4", "5")) else "5"
    file.write_text("".join([*lines[:5], "\t".join(columns), *lines[6:]]), encoding="utf-8")
    summary = run()
    assert summary.worked["interactions"] and summary.worked["samples"]
    assert not any(summary.worked[stage] for stage in TEXT_STAGES)


def test_a_change_that_no_prompt_shows_is_a_pruned_update(first: RunSummary, source: Path, slice_lake: Path) -> None:
    items = pl.read_csv(source / "slice.item", separator="\t", quote_char=None, infer_schema=False)
    title = next(title for title in items["movie_title:token_seq"] if " " in title)
    edit_items(source, title, title.replace(" ", "  ", 1))
    summary = run()
    assert summary.worked["core_items"]
    for stage in ("item_descriptions", "title_embeddings"):
        figures = reported(slice_lake, stage)
        assert (figures["rows_pruned"], figures["rows_stale"], figures["llm"]["rows"]) == (1, 0, 0), stage
    assert reported(slice_lake, "description_embeddings")["rows_reused"] == 25
