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
from rallrec_pipeline.lake.parquet import write_table
from rallrec_pipeline.lake.tables import embeddings_table
from rallrec_pipeline.lake.vectors import vector_version
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.pipeline.checks.items import index_equals_brute_force
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.stages.retrieval import item_index
from rallrec_pipeline.settings import IndexSettings, Settings

DATASET, ITEMS = "tiny", 300


def silent(_: str) -> Progress:
    return lambda done, total: None


def put(run: StageRun, vectors: NDArray[np.float32]) -> None:
    """Items and their vectors, as the stages before leave them."""
    ids = [f"i{row}" for row in range(len(vectors))]
    write_table(pl.DataFrame({"item_id": ids, "title": ids}), tables.CORE_ITEMS, run.lake, DATASET)
    provenance: dict[str, Any] = {name: pl.lit("", dtype) for name, dtype in tables.PROVENANCE.items()}
    provenance["data_version"] = pl.Series([vector_version(vector.tobytes()) for vector in vectors])
    frame = pl.DataFrame({"item_id": ids, "vector": vectors}).with_columns(**provenance)
    write_table(frame, embeddings_table("item"), run.lake, DATASET)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, log: list[str]) -> StageRun:
    """A lake with ITEMS items, and an approximate index asked for."""
    settings = Settings(profile="demo", index=IndexSettings(kind="ivf", probes=40))
    made = StageRun(tmp_path, DATASET, settings, "run", log.append, silent)
    put(made, random_vectors())
    return made


def random_vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(ITEMS, 8)).astype(np.float32)


def counts(metadata: Any) -> tuple[Any, ...]:
    return tuple(metadata[name] for name in ("index_work", "rows_added", "rows_removed", "rows_reused"))


def test_the_stage_says_what_it_did(run: StageRun, log: list[str]) -> None:
    first = item_index(run)
    assert counts(first.metadata) == ("built", ITEMS, 0, 0) and first.metadata["index"] == "ivf"
    vectors = random_vectors()
    vectors[:3] += 1
    put(run, vectors[:-1])
    second = item_index(run)
    assert counts(second.metadata) == ("updated", 3, 4, ITEMS - 4)
    first.files[0].write_bytes(b"rubbish")
    assert counts(item_index(run).metadata) == ("built", ITEMS - 1, 0, 0)
    assert log == [
        "item_index: built: there is no old one",
        "item_index: updated: few rows changed",
        "item_index: built: the old one is damaged",
    ]


def test_the_check_judges_an_approximate_index_by_what_it_finds(run: StageRun) -> None:
    item_index(run)
    verdict = index_equals_brute_force(run)
    assert verdict.passed and verdict.figures["kind"] == "ivf"
    assert 0.9 <= verdict.figures["recall_at_10"] <= 1 and verdict.figures["probes"] == 40
    narrow = replace(run, settings=run.settings.model_copy(update={"index": IndexSettings(kind="ivf", probes=1)}))
    item_index(narrow)
    verdict = index_equals_brute_force(narrow)
    assert not verdict.passed and verdict.figures["recall_at_10"] < 0.9


def test_the_check_sees_other_items_and_other_vectors(run: StageRun) -> None:
    flat = replace(run, settings=Settings(profile="demo"))
    made = item_index(flat)
    verdict = index_equals_brute_force(flat)
    assert verdict.passed and verdict.figures["kind"] == "flat" and verdict.figures["largest_difference"] < 1e-5
    names = read_json(made.files[1])
    assert names == [f"i{row}" for row in range(ITEMS)]
    write_json(made.files[1], names[::-1])
    assert not index_equals_brute_force(flat).passed
    write_json(made.files[1], names)
    put(run, -2 * random_vectors())
    verdict = index_equals_brute_force(flat)
    assert not verdict.passed and verdict.figures["largest_difference"] > 1
