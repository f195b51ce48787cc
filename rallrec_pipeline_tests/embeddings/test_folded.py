"""An item that nothing was fitted on gets the vectors that it would have if it had been there without being learned."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from rallrec_pipeline.embeddings.alignment import train_projector
from rallrec_pipeline.embeddings.folded import fold_aligned, fold_text
from rallrec_pipeline.embeddings.text import text_vectors
from rallrec_pipeline.settings import AlignmentSettings, TextEmbeddingSettings

ITEMS = 40
RNG = np.random.default_rng(3)
TITLE, DESCRIPTION = (RNG.normal(size=(ITEMS, 12)).astype(np.float32) for _ in range(2))
COLLABORATIVE = RNG.normal(size=(ITEMS, 6)).astype(np.float32)


@pytest.mark.parametrize("descriptions", ["written", "empty"])
@pytest.mark.parametrize("whiten", [False, True])
def test_the_text_of_a_known_item_folds_to_its_own_vector(descriptions: str, whiten: bool) -> None:
    settings = TextEmbeddingSettings.model_validate(
        {"pca_dimensions": 4, "whiten": whiten, "descriptions": descriptions}
    )
    whole = text_vectors(TITLE, DESCRIPTION, settings, seed=1)
    some = fold_text(TITLE[5:8], DESCRIPTION[5:8], (TITLE, DESCRIPTION), settings, seed=1)
    np.testing.assert_allclose(some, whole[5:8], atol=1e-5)


@pytest.mark.parametrize("kind", ["mlp", "linear", "attention"])
def test_a_projector_gives_an_item_that_it_did_not_learn_from_the_same_by_its_stored_weights(
    kind: Literal["mlp", "linear", "attention"],
) -> None:
    settings = AlignmentSettings(kind=kind, hidden=8, epochs=3)
    examples = np.arange(ITEMS) < ITEMS - 5  # the last five are new
    result = train_projector(TITLE, COLLABORATIVE, settings, seed=1, examples=examples)
    known = (TITLE[examples], COLLABORATIVE[examples])
    found = fold_aligned(TITLE[~examples], result.tensors, known, settings)
    np.testing.assert_allclose(found, result.vectors[~examples], atol=1e-5)
