from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.alignment import info_nce, project, train_projector
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
    train_projector(text, collaborative, short, 0, lambda done, total, _: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert np.isfinite(train_projector(text[:1], collaborative[:1], short, 0).vectors).all()


def test_a_projector_is_a_function_of_raw_text_whatever_it_stands_beside() -> None:
    """The mean and the scale of all texts move with the items; what a text is projected to does not."""
    text, collaborative = linear_pair()
    fitted = train_projector(text, collaborative, SETTINGS, seed=0)
    np.testing.assert_array_equal(project(fitted.projector, text), fitted.vectors)
    few = text[:9] * 1.0
    assert not np.allclose(few.mean(axis=0), text.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(project(fitted.projector, few), fitted.vectors[:9], atol=1e-4)


def test_no_epoch_is_needed_when_nothing_changed() -> None:
    text, collaborative = linear_pair()
    cold = train_projector(text, collaborative, SETTINGS, seed=0)
    warm = train_projector(text, collaborative, SETTINGS, seed=1, start=cold.projector)
    assert warm.losses == [] and warm.loss == (cold.loss[1], cold.loss[1]) and warm.accuracy[0] == cold.accuracy[1]
    np.testing.assert_array_equal(warm.vectors, cold.vectors)


def test_a_warm_projector_goes_as_far_as_the_one_before_in_fewer_epochs() -> None:
    text, collaborative = linear_pair()
    cold = train_projector(text[:36], collaborative[:36], SETTINGS, seed=0)
    warm, again = (train_projector(text, collaborative, SETTINGS, 0, start=cold.projector) for _ in range(2))
    assert 0 < len(warm.losses) < SETTINGS.epochs / 2
    assert warm.loss[1] <= cold.loss[1] < warm.loss[0]
    np.testing.assert_array_equal(warm.vectors, again.vectors)


def test_a_warm_projector_ends_with_its_epochs_where_the_goal_is_out_of_reach() -> None:
    text, collaborative = linear_pair()
    cold = train_projector(text, collaborative, SETTINGS, seed=0)
    short = SETTINGS.model_copy(update={"epochs": 3})
    assert len(train_projector(text, collaborative, short, 0, start=replace(cold.projector, loss=-1.0)).losses) == 3
