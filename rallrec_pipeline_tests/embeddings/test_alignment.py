import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.alignment import info_nce, train_projector
from rallrec_pipeline.embeddings.held_out import fit_held_out
from rallrec_pipeline.embeddings.projectors import Attention, Known
from rallrec_pipeline.evaluation.measures.alignment import alignment_figures
from rallrec_pipeline.settings import AlignmentSettings

SETTINGS = AlignmentSettings(hidden=32, epochs=60, learning_rate=5e-3)


KINDS = ("mlp", "linear", "attention")


def of_kind(kind: str, **changes: object) -> AlignmentSettings:
    return AlignmentSettings.model_validate({**SETTINGS.model_dump(), "kind": kind, **changes})


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


@pytest.mark.parametrize(("kind", "share"), [("mlp", 0.9), ("linear", 0.4)])
def test_learns_to_find_each_items_own_collaborative_vector(kind: str, share: float) -> None:
    text, collaborative = linear_pair()
    result = train_projector(text, collaborative, of_kind(kind), seed=0)
    assert result.vectors.shape == collaborative.shape
    assert result.vectors.dtype == np.float32
    assert len(result.losses) == SETTINGS.epochs
    assert result.losses[-1] < result.losses[0] / 4
    assert result.accuracy[0] < 0.3 < share < result.accuracy[1]


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_vectors_whatever_the_global_state(kind: str) -> None:
    text, collaborative = linear_pair()
    torch.manual_seed(1)
    first = train_projector(text, collaborative, of_kind(kind), seed=5).vectors
    torch.manual_seed(2)
    assert (first == train_projector(text, collaborative, of_kind(kind), seed=5).vectors).all()
    assert (first != train_projector(text, collaborative, of_kind(kind), seed=6).vectors).any()


@pytest.mark.parametrize("kind", KINDS)
def test_items_without_a_collaborative_vector_teach_nothing_but_are_projected(kind: str) -> None:
    text, collaborative = linear_pair()
    collaborative[3] = 0
    result = train_projector(text, collaborative, of_kind(kind), seed=0)
    assert np.isfinite(result.vectors).all()
    assert result.vectors[3].any()


@pytest.mark.parametrize("kind", KINDS)
def test_progress_counts_epochs_and_a_single_item_is_no_error(kind: str) -> None:
    calls: list[tuple[int, int]] = []
    text, collaborative = linear_pair()
    short = of_kind(kind, hidden=4, epochs=3)
    train_projector(text, collaborative, short, 0, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert np.isfinite(train_projector(text[:1], collaborative[:1], short, 0).vectors).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_that_is_no_example_teaches_nothing_but_is_projected(kind: str) -> None:
    text, collaborative = linear_pair()
    examples = np.arange(len(text)) % 4 > 0
    fitted = train_projector(text, collaborative, of_kind(kind), seed=0, examples=examples)
    other_text, other_goals = text.copy(), collaborative.copy()
    other_text[~examples] *= -3
    other_goals[~examples] = 0
    again = train_projector(other_text, other_goals, of_kind(kind), seed=0, examples=examples)
    assert all((fitted.tensors[name] == again.tensors[name]).all() for name in fitted.tensors)
    assert (fitted.vectors[examples] == again.vectors[examples]).all()
    assert (fitted.vectors[~examples] != again.vectors[~examples]).any() and np.isfinite(again.vectors).all()


def test_a_kind_that_needs_no_width_has_the_arrays_of_one_matrix() -> None:
    text, collaborative = linear_pair()
    names = {kind: set(train_projector(text, collaborative, of_kind(kind), 0).tensors) for kind in KINDS}
    layers = {kind: {name.partition(".")[0] for name in found} - {"input"} for kind, found in names.items()}
    assert layers == {"mlp": {"hidden", "output"}, "linear": {"output"}, "attention": {"query", "key"}}
    matrix = train_projector(text, collaborative, of_kind("linear"), 0).tensors
    standard = (text - matrix["input.mean"]) / matrix["input.scale"]
    by_hand = standard @ matrix["output.weight"].T + matrix["output.bias"]
    vectors = train_projector(text, collaborative, of_kind("linear"), 0).vectors
    np.testing.assert_allclose(vectors, by_hand, atol=1e-4)


def attention(text: int = 12, seed: int = 0) -> Attention:
    return Attention(text, 8, 0.1, torch.Generator().manual_seed(seed))


def test_attention_cannot_see_the_items_own_collaborative_vector() -> None:
    text, goals = (torch.from_numpy(array) for array in linear_pair())
    model, own = attention(), torch.arange(len(text))
    with torch.no_grad():
        before = model(text, Known(text, goals), own)
        for item in (0, 7, 39):
            changed = goals.clone()
            changed[item] = torch.full((6,), 50.0)
            after = model(text, Known(text, changed), own)
            assert torch.equal(after[item], before[item]), "its own vector counts"
            assert (after != before).any(dim=1).sum() == len(text) - 1, "others' vectors do not count"


def test_attention_is_a_weighted_mean_of_the_directions_of_others() -> None:
    text, goals = (torch.from_numpy(array) for array in linear_pair(5))
    model = attention()
    with torch.no_grad():
        found = model(text, Known(text, goals), torch.arange(5)).double().numpy()
    arrays = model.arrays()
    unit = {
        name: text.double().numpy() @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"] for name in ("query", "key")
    }
    unit = {name: array / np.linalg.norm(array, axis=1, keepdims=True) for name, array in unit.items()}
    weights = np.exp(unit["query"] @ unit["key"].T / 0.1)
    np.fill_diagonal(weights, 0)
    directions = goals.double().numpy() / np.linalg.norm(goals.double().numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(found, weights / weights.sum(axis=1, keepdims=True) @ directions, atol=1e-5)
    assert (arrays["query.weight"] == arrays["key.weight"]).all(), "before a fit, texts that are alike match"


def test_attention_learns_which_texts_matter() -> None:
    """Half of the text says nothing of the collaborative vector; the fit finds out which half."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 8, 160)
    useful, noise = np.eye(8, dtype=np.float32)[kinds], 3 * rng.normal(size=(160, 8)).astype(np.float32)
    goals = (rng.normal(size=(8, 6))[kinds] + 0.2 * rng.normal(size=(160, 6))).astype(np.float32)
    text = np.concatenate([useful, noise], axis=1)
    fit = fit_held_out(text, goals, np.arange(160), of_kind("attention", hidden=16, epochs=200), seed=0)
    held_out = np.flatnonzero(fit.is_held_out)
    before, after = (
        alignment_figures(vectors[held_out], goals, held_out)["own_nearer"] for vectors in (fit.before, fit.after)
    )
    assert after > 0.85 and after > before + 0.1


def test_with_one_other_item_attention_is_that_items_direction_and_with_none_it_is_zero() -> None:
    text, goals = (torch.from_numpy(array) for array in linear_pair(2))
    with torch.no_grad():
        two = attention()(text, Known(text, goals), torch.arange(2))
        one = attention()(text[:1], Known(text[:1], goals[:1]), torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(two, torch.nn.functional.normalize(goals, dim=1).flip(0))
    assert torch.equal(one, torch.zeros(1, 6))


def test_items_are_projected_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text, collaborative = linear_pair()
    whole = train_projector(text, collaborative, of_kind("attention"), 0).vectors
    monkeypatch.setattr("rallrec_pipeline.embeddings.alignment.CELLS", 40 * 7)
    np.testing.assert_allclose(train_projector(text, collaborative, of_kind("attention"), 0).vectors, whole, atol=1e-6)
