"""Checks of descriptions, vectors, prompts and splits, each on a table that is right and on ones that are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.vectors import vector_version
from rallrec_pipeline.pipeline.checks.items import every_item_described, finite_vectors
from rallrec_pipeline.pipeline.checks.llm import prompts_fit_context, tuning_rows_are_training_rows
from rallrec_pipeline.pipeline.checks.tables import splits_follow_time
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import ModelSettings, load_settings
from rallrec_pipeline_tests.pipeline.given import give, looking_run

DATASET = "movielens-100k"
ITEMS = ["a", "b", "c"]
SPLITS = {1: "train", 2: "train", 3: "valid", 4: "test"}


@pytest.fixture
def run(tmp_path: Path, built_in_settings_only: None) -> StageRun:
    """A lake with three items and a sample of each by one user, and one more for training."""
    made = looking_run(tmp_path, DATASET, load_settings("demo"))
    put(made, tables.CORE_ITEMS, item_id=ITEMS, title=ITEMS)
    put_samples(made, {1: 10, 2: 20, 3: 30, 4: 40})
    return made


def put(run: StageRun, table: tables.Table, **columns: Sequence[Any]) -> None:
    """Write a table of these columns; the others hold nothing."""
    schema = dict(table.columns)
    height = len(next(iter(columns.values())))
    empty = {name: [nothing(dtype)] * height for name, dtype in schema.items()}
    give(run, table, pl.DataFrame(empty | columns, schema=schema))


def nothing(dtype: Any) -> Any:
    return [] if dtype == pl.List else "" if dtype == pl.String else False if dtype == pl.Boolean else 0


def put_samples(run: StageRun, times: Mapping[int, int]) -> None:
    items = {1: "a", 2: "b", 3: "c", 4: "d"}
    numbers = list(times)
    put(
        run,
        tables.SAMPLES,
        sample_id=numbers,
        user_id=["u"] * len(numbers),
        item_id=[items[number] for number in numbers],
        split=[SPLITS[number] for number in numbers],
        timestamp=list(times.values()),
    )


@pytest.mark.parametrize(
    ("times", "holds"),
    [
        ({1: 10, 2: 20, 3: 30, 4: 40}, True),
        ({1: 10, 2: 30, 3: 30, 4: 30}, True),
        ({1: 10, 2: 31, 3: 30, 4: 40}, False),
        ({1: 10, 2: 20, 3: 41, 4: 40}, False),
        ({1: 10, 2: 20, 3: 30}, False),
        ({3: 30, 4: 40}, False),
    ],
)
def test_training_comes_before_validation_and_that_before_test(
    run: StageRun, times: dict[int, int], holds: bool
) -> None:
    put_samples(run, times)
    assert splits_follow_time(run).passed is holds


@pytest.mark.parametrize(
    ("texts", "status", "holds"),
    [
        (["A thriller.", "A drama.", "b"], "ok", True),
        (["A thriller.", "A drama."], "ok", False),
        (["A thriller.", "A drama.", "  "], "ok", False),
        (["A thriller.", "A drama.", "word " * 41], "ok", False),
        (["A thriller.", "A drama.", "word " * 41], "template", True),
    ],
)
def test_every_item_has_a_text_within_bounds(run: StageRun, texts: list[str], status: str, holds: bool) -> None:
    assert run.settings.descriptions.max_words == 40
    states = ["ok", "ok", status][: len(texts)]
    stripped = [text if text.isspace() else text.strip() for text in texts]
    put(run, tables.ITEM_DESCRIPTIONS, item_id=ITEMS[: len(texts)], description=stripped, status=states)
    assert every_item_described(run).passed is holds


@pytest.mark.parametrize(
    ("ids", "number", "holds"),
    [(ITEMS, 1.0, True), (ITEMS, np.nan, False), (ITEMS, np.inf, False), (ITEMS[:2], 1.0, False), ([], 1.0, False)],
)
def test_every_item_has_a_finite_vector(run: StageRun, ids: list[str], number: float, holds: bool) -> None:
    vectors = np.ones((len(ids), 4), dtype=np.float32)
    vectors[-1:, 2] = number
    provenance: dict[str, Any] = {name: pl.lit("", dtype) for name, dtype in tables.PROVENANCE.items()}
    provenance["data_version"] = pl.Series([vector_version(vector.tobytes()) for vector in vectors], dtype=pl.String)
    frame = pl.DataFrame({"item_id": pl.Series(ids, dtype=pl.String), "vector": vectors}).with_columns(**provenance)
    give(run, tables.embeddings_table("title"), frame)
    assert finite_vectors("title")(run).passed is holds


@pytest.mark.parametrize(
    ("asked", "shown", "holds"),
    [
        ([1, 2], {"recent": ["a"], "relevant": ["b"], "reranked": ["a", "b"]}, True),
        ([1, 3], {"recent": ["a"]}, False),
        ([1, 99], {"recent": ["a"]}, False),
        ([1, 2], {"recent": ["c"]}, False),
        ([1, 2], {"relevant": ["d"]}, False),
        ([1, 2], {"reranked": ["a", "d"]}, False),
    ],
)
def test_tuning_neither_asks_about_nor_shows_a_held_out_rating(
    run: StageRun, asked: list[int], shown: dict[str, list[str]], holds: bool
) -> None:
    put(run, tables.prompts_table("tuning"), sample_id=asked)
    histories = {name: [items] for name, items in shown.items()}
    put(run, tables.RETRIEVED_HISTORIES, sample_id=[1], user_id=["u"], item_id=["a"], split=["train"], **histories)
    assert tuning_rows_are_training_rows(run).passed is holds


def test_prompts_leave_room_for_the_answer(run: StageRun, model_path: Path) -> None:
    (run.lake / "models").mkdir()
    (run.lake / "models" / ModelSettings().name).symlink_to(model_path)
    fits = prompts_fit_context("evaluation")
    put(run, tables.prompts_table("evaluation"), sample_id=[3, 4], prompt=["Heat:5", "Heat:5\n" * 1500])
    verdict = fits(run)
    assert verdict.passed and verdict.figures["prompts"] == 2 and verdict.figures["room"] == 8192 - 128
    put(run, tables.prompts_table("evaluation"), sample_id=[3, 4], prompt=["Heat:5", "Heat:5\n" * 3000])
    verdict = fits(run)
    assert not verdict.passed and verdict.figures["longest"] > verdict.figures["room"]
