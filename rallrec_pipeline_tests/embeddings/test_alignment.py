import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.alignment import info_nce, train_projector
from rallrec_pipeline.settings import AlignmentSettings

SETTINGS = AlignmentSettings(hidden=32, epochs=60, learning_rate=5e-3)


def linear_pair(n: int = 40) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(n, 12)).astype(np.float32)
    return text, (text @ rng.normal(size=(12, 6))).astype(np.float32)


def test_loss_is_equation_5() -> None:
    rng = np.random.default_rng(1)
    a, b, temperature = rng.normal(size=(7, 4)), rng.normal(size=(7, 4)), 0.3
    cosines = np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a])
    weights = np.exp(cosines / temperature)
    text_to_colla = -np.mean([np.log(weights[i, i] / weights[i].sum()) for i in range(7)])
    colla_to_text = -np.mean([np.log(weights[i, i] / weights[:, i].sum()) for i in range(7)])
    loss = info_nce(torch.tensor(a), torch.tensor(b), temperature).item()
    assert loss == pytest.approx((text_to_colla + colla_to_text) / 2)


def test_learns_to_find_each_items_own_collaborative_vector() -> None:
    text, collaborative = linear_pair()
    result = train_projector(text, collaborative, SETTINGS, seed=0)
    assert result.vectors.shape == collaborative.shape
    assert result.vectors.dtype == np.float32
    assert len(result.losses) == SETTINGS.epochs
    assert result.losses[-1] < result.losses[0] / 4
    assert result.accuracy[0] < 0.3 < 0.9 < result.accuracy[1]


def test_same_seed_same_vectors_whatever_the_global_state() -> None:
    text, collaborative = linear_pair()
    torch.manual_seed(1)
    first = train_projector(text, collaborative, SETTINGS, seed=5).vectors
    torch.manual_seed(2)
    assert (first == train_projector(text, collaborative, SETTINGS, seed=5).vectors).all()
    assert (first != train_projector(text, collaborative, SETTINGS, seed=6).vectors).any()


def test_items_without_a_collaborative_vector_teach_nothing_but_are_projected() -> None:
    text, collaborative = linear_pair()
    collaborative[3] = 0
    result = train_projector(text, collaborative, SETTINGS, seed=0)
    assert np.isfinite(result.vectors).all()
    assert result.vectors[3].any()


def test_progress_counts_epochs_and_a_single_item_is_no_error() -> None:
    calls: list[tuple[int, int]] = []
    text, collaborative = linear_pair()
    short = AlignmentSettings(hidden=4, epochs=3)
    train_projector(text, collaborative, short, 0, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert np.isfinite(train_projector(text[:1], collaborative[:1], short, 0).vectors).all()


def test_an_item_that_is_no_example_teaches_nothing_but_is_projected() -> None:
    text, collaborative = linear_pair()
    examples = np.arange(len(text)) % 4 > 0
    fitted = train_projector(text, collaborative, SETTINGS, seed=0, examples=examples)
    other_text, other_goals = text.copy(), collaborative.copy()
    other_text[~examples] *= -3
    other_goals[~examples] = 0
    again = train_projector(other_text, other_goals, SETTINGS, seed=0, examples=examples)
    assert all((fitted.tensors[name] == again.tensors[name]).all() for name in fitted.tensors)
    assert (fitted.vectors[examples] == again.vectors[examples]).all()
    assert (fitted.vectors[~examples] != again.vectors[~examples]).any() and np.isfinite(again.vectors).all()
