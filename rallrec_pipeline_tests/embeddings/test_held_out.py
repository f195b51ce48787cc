from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.held_out import HELD_OUT, fit_held_out, measurable_items
from rallrec_pipeline.settings import AlignmentSettings

SETTINGS = AlignmentSettings(hidden=16, epochs=40, learning_rate=5e-3)


def pair(n: int = 50) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(n, 12)).astype(np.float32)
    return text, (text @ rng.normal(size=(12, 6))).astype(np.float32)


def test_items_that_lack_a_vector_are_not_measured() -> None:
    text, collaborative = pair(6)
    text[1], collaborative[4] = 0, 0
    assert measurable_items(text, collaborative).tolist() == [0, 2, 3, 5]


def test_a_fifth_of_the_items_is_held_out_by_the_seed() -> None:
    text, collaborative = pair()
    rows = np.arange(0, 50, 2)
    fit = fit_held_out(text, collaborative, rows, SETTINGS, seed=3)
    assert fit.rows.tolist() == rows.tolist() and fit.is_held_out.sum() == round(HELD_OUT * 25)
    assert fit.before.shape == fit.after.shape == (25, 6)
    again = fit_held_out(text, collaborative, rows, SETTINGS, seed=3)
    assert (fit.is_held_out == again.is_held_out).all() and (fit.after == again.after).all()
    assert (fit.is_held_out != fit_held_out(text, collaborative, rows, SETTINGS, seed=4).is_held_out).any()


@pytest.mark.parametrize("kind", ["mlp", "linear", "attention"])
def test_no_held_out_vector_reaches_the_fit(kind: Literal["mlp", "linear", "attention"]) -> None:
    settings = SETTINGS.model_copy(update={"kind": kind})
    text, collaborative = pair()
    rows = np.arange(50)
    fit = fit_held_out(text, collaborative, rows, settings, seed=3)
    held_out = rows[fit.is_held_out]
    changed = collaborative.copy()
    changed[held_out] = changed[held_out[::-1]] + 1
    again = fit_held_out(text, changed, rows, settings, seed=3)
    assert (fit.after == again.after).all()


def test_of_very_many_items_a_draw_is_measured() -> None:
    text, collaborative = pair()
    fit = fit_held_out(text, collaborative, np.arange(50), SETTINGS, seed=3, most=20)
    assert len(fit.rows) == 20 and (np.diff(fit.rows) > 0).all() and fit.is_held_out.sum() == 4
