"""The lineage of an item of real data that the real LLM worked on; on the lake that test_pipeline.py has filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from rallrec_pipeline.cli import app
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.parquet import read_table
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline.pipeline.lineage.chain import trace
from rallrec_pipeline.pipeline.lineage.model import Lineage
from rallrec_pipeline.settings import load_settings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def found(slice_lake: Path) -> Lineage:
    """The item that is most often shown in a reranked history."""
    assert materialize_dataset("slice").error is None
    histories = read_table(tables.RETRIEVED_HISTORIES, slice_lake, "slice")
    shown = histories["reranked"].explode().value_counts(sort=True).sort("count", "reranked", descending=True)
    return trace(slice_lake, "slice", shown["reranked"][0], load_settings())


def test_the_raw_lines_are_those_of_the_files(found: Lineage, slice_lake: Path) -> None:
    assert found.raw.item and found.raw.ratings and found.item.fields
    lines = (slice_lake / found.raw.item.file).read_text(encoding="utf-8").split("\n")
    (line,) = found.raw.item.lines
    assert lines[line["line"] - 1] == line["text"] and line["text"].split("\t")[0] == found.item_id
    ratings = (slice_lake / found.raw.ratings.file).read_text(encoding="utf-8").split("\n")
    naming = [number for number, rating in enumerate(ratings, 1) if rating.split("\t")[1:2] == [found.item_id]]
    assert found.raw.ratings.count == len(naming) == found.ratings.raw
    assert found.item.fields["year"] in line["text"]


def test_the_stored_vector_is_that_of_the_stored_text(found: Lineage, engine: TransformersEngine) -> None:
    assert found.description.text and found.description.prompt
    vector = engine.encode([found.description.text])[0].astype(np.float64)
    stored = found.vectors["description"]
    assert stored.verified and stored.norm == pytest.approx(float(np.linalg.norm(vector)), rel=0.02)
    assert found.item.fields and found.item.fields["title"] in found.description.prompt


def test_the_neighbours_are_those_of_brute_force(found: Lineage, slice_lake: Path) -> None:
    table = read_table(tables.embeddings_table("item"), slice_lake, "slice")
    vectors = dict(zip(table["item_id"], vectors_of(table), strict=True))
    own = vectors.pop(found.item_id)
    best = sorted(vectors, key=lambda item: -float(own @ vectors[item]))[:5]
    assert [near.item_id for near in found.index.neighbours] == best
    for near in found.index.neighbours:
        parts = sum((found.index.weights or {})[part] * (cosine or 0) for part, cosine in near.parts.items())
        assert near.similarity == pytest.approx(parts, abs=1e-3)


def test_prompts_and_predictions_with_the_item(found: Lineage, slice_lake: Path) -> None:
    assert found.item.fields and found.uses.tuning_prompts
    prompts = read_table(tables.prompts_table("tuning"), slice_lake, "slice")
    naming = prompts.filter(pl.col("prompt").str.contains(found.item.fields["title"], literal=True))
    assert found.uses.tuning_prompts["all"] == naming.height
    assert len(found.uses.predictions) == 17 and all(one.run_id for one in found.uses.predictions)
    result = CliRunner().invoke(app, ["lineage", "slice", found.item_id, "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["uses"]["tuning_prompts"]["all"] == naming.height
