"""The stage `item_index` and its check, on made-up vectors: no LLM is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import read_json, write_json
from rallrec_pipeline.lake.tables import embeddings_table
from rallrec_pipeline.lake.vectors import vector_version
from rallrec_pipeline.pipeline.checks.items import index_equals_brute_force
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.settings import IndexSettings, Settings
from rallrec_pipeline_tests.pipeline.given import give, looking_run, work

DATASET, ITEMS = "tiny", 300


def put(run: StageRun, vectors: NDArray[np.float32]) -> None:
    """Items and their vectors, as the stages before leave them."""
    ids = [f"i{row}" for row in range(len(vectors))]
    give(run, tables.CORE_ITEMS, pl.DataFrame({"item_id": ids, "title": ids}))
    provenance: dict[str, Any] = {name: pl.lit("", dtype) for name, dtype in tables.PROVENANCE.items()}
    provenance["data_version"] = pl.Series([vector_version(vector.tobytes()) for vector in vectors])
    frame = pl.DataFrame({"item_id": ids, "vector": vectors}).with_columns(**provenance)
    give(run, embeddings_table("item"), frame)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, log: list[str]) -> StageRun:
    """A lake with ITEMS items, and an approximate index asked for."""
    settings = Settings(profile="demo", index=IndexSettings(kind="ivf", probes=40))
    made = looking_run(tmp_path, DATASET, settings, log.append)
    put(made, random_vectors())
    return made


def random_vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)


def counts(metadata: Any) -> tuple[Any, ...]:
    return tuple(metadata[name] for name in ("index_work", "rows_added", "rows_removed", "rows_reused"))


def test_the_stage_says_what_it_did(run: StageRun, log: list[str]) -> None:
    first, stored = work(run, "item_index")
    assert counts(first.metadata) == ("built", ITEMS, 0, 0) and first.metadata["index"] == "ivf"
    vectors = random_vectors()
    vectors[:3] += 1
    put(run, vectors[:-1])
    before = stored.paths(run.lake)[0].read_bytes()
    second, updated = work(run, "item_index")
    assert counts(second.metadata) == ("updated", 3, 4, ITEMS - 4)
    assert stored.paths(run.lake)[0].read_bytes() == before, "the old one is another result"
    updated.paths(run.lake)[0].write_bytes(b"rubbish")
    assert counts(work(run, "item_index")[0].metadata) == ("built", ITEMS - 1, 0, 0)
    assert log == [
        "item_index: built: there is no old one",
        "item_index: updated: few rows changed",
        "item_index: built: the old one is damaged",
    ]


def test_the_check_judges_an_approximate_index_by_what_it_finds(run: StageRun) -> None:
    work(run, "item_index")
    verdict = index_equals_brute_force(run)
    assert verdict.passed and verdict.figures["kind"] == "ivf"
    assert 0.9 <= verdict.figures["recall_at_10"] <= 1 and verdict.figures["probes"] == 40
    narrow = replace(run, settings=run.settings.model_copy(update={"index": IndexSettings(kind="ivf", probes=1)}))
    work(narrow, "item_index")
    verdict = index_equals_brute_force(narrow)
    assert not verdict.passed and verdict.figures["recall_at_10"] < 0.9


def test_the_check_sees_other_items_and_other_vectors(run: StageRun) -> None:
    flat = replace(run, settings=Settings(profile="demo"))
    names_file = work(flat, "item_index")[1].paths(run.lake)[1]
    verdict = index_equals_brute_force(flat)
    assert verdict.passed and verdict.figures["kind"] == "flat" and verdict.figures["largest_difference"] < 1e-5
    names = read_json(names_file)
    assert names == [f"i{row}" for row in range(ITEMS)]
    write_json(names_file, names[::-1])
    assert not index_equals_brute_force(flat).passed
    write_json(names_file, names)
    put(run, -2 * random_vectors())
    verdict = index_equals_brute_force(flat)
    assert not verdict.passed and verdict.figures["largest_difference"] > 1
