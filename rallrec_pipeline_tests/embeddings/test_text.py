"""Text embeddings on the real LLM: only what is new is encoded, and a reused row keeps its origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from rallrec_pipeline.embeddings.text import embed_texts, embeddings_frame, text_vectors, vectors_of
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.settings import TextEmbeddingSettings

if TYPE_CHECKING:
    from rallrec_pipeline.language_models.transformers_engine import TransformersEngine

TEXTS = ["Heat, a movie.", "Toy Story, a movie.", "Fargo, a movie."]


def test_only_changed_texts_are_encoded_again(engine: TransformersEngine) -> None:
    first, encoded = embed_texts("123", TEXTS, engine, None, "model", "one")
    assert encoded == 3 and vectors_of(first).shape == (3, engine.model.config.hidden_size)
    changed = [TEXTS[0], "Toys, a movie.", TEXTS[2]]
    second, encoded = embed_texts("123", changed, engine, first, "model", "two")
    assert encoded == 1 and second["run_id"].to_list() == ["one", "two", "one"]
    np.testing.assert_array_equal(vectors_of(second)[[0, 2]], vectors_of(first)[[0, 2]])
    assert second["data_version"][1] != first["data_version"][1]


def test_another_model_encodes_everything(engine: TransformersEngine) -> None:
    first, _ = embed_texts("123", TEXTS, engine, None, "model", "one")
    _, encoded = embed_texts("123", TEXTS, engine, first, "other", "two")
    assert encoded == 3


def test_nothing_changed_encodes_nothing(engine: TransformersEngine) -> None:
    first, _ = embed_texts("123", TEXTS, engine, None, "model", "one")
    second, encoded = embed_texts("123", TEXTS, engine, first, "model", "two")
    assert encoded == 0 and second.equals(first)


def test_both_parts_stand_side_by_side() -> None:
    rng = np.random.default_rng(1)
    title, description = (rng.normal(size=(20, 12)).astype(np.float32) for _ in range(2))
    both = text_vectors(title, description, TextEmbeddingSettings(pca_dimensions=4), 1)
    assert both.shape == (20, 8)


def test_a_vector_that_is_not_finite_is_refused() -> None:
    vectors = np.array([[1.0], [np.nan]], np.float32)
    with pytest.raises(DataError, match="first of item 'b'"):
        embeddings_frame("ab", vectors, ["x", "y"], "1", "", "run")
