"""Text embeddings on the real LLM: only what is new is encoded, and a reused row keeps its origin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rallrec_pipeline.embeddings import text
from rallrec_pipeline.embeddings.text import EncodedTexts, embed_texts, embeddings_frame, text_vectors
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import VECTORS
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.language_models.protocols import Progress
from rallrec_pipeline.settings import TextEmbeddingSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.engines.transformers_engine import TransformersEngine

TEXTS = ["Heat, a movie.", "Toy Story, a movie.", "Fargo, a movie."]


class Embedder:
    """`embed_texts` over one lake, as one stage after another would call it."""

    def __init__(self, lake: Path, engine: TransformersEngine) -> None:
        self.memo, self.engine, self.loaded = Memo(lake, VECTORS), engine, 0

    def load(self) -> TransformersEngine:
        self.loaded += 1
        return self.engine

    def __call__(
        self, texts: list[str], run: str, model: str = "model", progress: Progress | None = None
    ) -> EncodedTexts:
        ids = [str(number) for number in range(len(texts))]
        return embed_texts(ids, texts, self.load, self.memo, model, run, progress)


@pytest.fixture
def embed(tmp_path: Path, engine: TransformersEngine) -> Embedder:
    return Embedder(tmp_path, engine)


def test_only_changed_texts_are_encoded_again(embed: Embedder) -> None:
    first = embed(TEXTS, "one")
    assert first.computed == 3 and vectors_of(first.table).shape == (3, embed.engine.model.config.hidden_size)
    second = embed([TEXTS[0], "Toys, a movie.", TEXTS[2]], "two")
    assert second.computed == 1 and second.table["run_id"].to_list() == ["one", "two", "one"]
    np.testing.assert_array_equal(vectors_of(second.table)[[0, 2]], vectors_of(first.table)[[0, 2]])
    assert second.table["data_version"][1] != first.table["data_version"][1]


def test_a_reverted_text_costs_nothing_and_keeps_its_origin(embed: Embedder) -> None:
    first = embed(TEXTS, "one")
    embed([TEXTS[0], "Toys, a movie.", TEXTS[2]], "two")
    loaded = embed.loaded
    third = embed(TEXTS, "three")
    assert third.computed == 0 and embed.loaded == loaded and third.table.equals(first.table)


def test_equal_texts_are_encoded_once(embed: Embedder) -> None:
    made = embed([TEXTS[0], TEXTS[1], TEXTS[0]], "one")
    assert made.computed == 2
    np.testing.assert_array_equal(*vectors_of(made.table)[[0, 2]])


def test_another_model_encodes_everything(embed: Embedder) -> None:
    embed(TEXTS, "one")
    assert embed(TEXTS, "two", model="other").computed == 3


def test_nothing_changed_encodes_nothing_and_loads_nothing(embed: Embedder) -> None:
    first = embed(TEXTS, "one")
    second = embed(TEXTS, "two")
    assert second.computed == 0 and embed.loaded == 1 and second.table.equals(first.table)


def test_a_broken_off_run_ends_with_the_same_vectors(
    tmp_path: Path, engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "CHUNK", 4)
    texts = [f"{TEXTS[n % 3]} {'very ' * (n % 7)}good, part {n}" for n in range(14)]
    whole = Embedder(tmp_path / "whole", engine)(texts, "one").table

    def stop(done: int, total: int) -> None:
        if done > 9:
            raise KeyboardInterrupt

    broken = Embedder(tmp_path / "broken", engine)
    with pytest.raises(KeyboardInterrupt):
        broken(texts, "one", progress=stop)
    again = broken(texts, "two")
    assert again.computed == 14 - 8  # two chunks were stored
    assert again.table["data_version"].equals(whole["data_version"])


def test_both_parts_stand_side_by_side() -> None:
    rng = np.random.default_rng(1)
    title, description = (rng.normal(size=(20, 12)).astype(np.float32) for _ in range(2))
    both = text_vectors(title, description, TextEmbeddingSettings(pca_dimensions=4), 1)
    assert both.shape == (20, 8)


def test_descriptions_may_be_another_items_or_left_out() -> None:
    rng = np.random.default_rng(1)
    title, description = (rng.normal(size=(20, 12)).astype(np.float32) for _ in range(2))
    own = TextEmbeddingSettings(pca_dimensions=0)
    written, shuffled, empty = (
        text_vectors(title, description, own.model_copy(update={"descriptions": kind}), 1)
        for kind in ("written", "shuffled", "empty")
    )
    assert (shuffled[:, :12] == written[:, :12]).all() and (empty == written[:, :12]).all()
    moved = shuffled[:, 12:]
    assert not (moved == written[:, 12:]).all(axis=1).all()
    assert (np.sort(moved, axis=0) == np.sort(written[:, 12:], axis=0)).all()


def test_a_vector_that_is_not_finite_is_refused() -> None:
    vectors = np.array([[1.0], [np.nan]], np.float32)
    with pytest.raises(DataError, match="first of item 'b'"):
        embeddings_frame("ab", vectors, ["x", "y"], "1", "", "run")
