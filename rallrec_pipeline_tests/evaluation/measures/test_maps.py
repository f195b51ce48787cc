"""Maps of item vectors, and the categories that colour them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from rallrec_pipeline.embeddings.held_out import fit_held_out
from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.evaluation.measures.maps import MOST_POINTS, categories, category_field, draw_maps, projections
from rallrec_pipeline_tests.datasets.worlds import make_spec
from rallrec_pipeline_tests.evaluation.alignment_examples import SETTINGS, catalogue, first_axes, vectors


def test_the_category_is_the_datasets_own_field_of_kinds() -> None:
    def spec(*fields: str) -> str | None:
        return category_field(make_spec(items={"file": "s.item", "columns": dict.fromkeys(("title", *fields), "x")}))

    assert spec("year", "genres") == "genres" and spec("Category", "year") == "Category"
    assert spec("genre", "category") == "genre" and spec("year", "author") is None and spec() is None


def test_items_with_several_categories_take_the_first_and_rare_ones_have_no_name() -> None:
    genres = ["Drama, War"] * 5 + ["War"] * 4 + [f"G{n}" for n in range(9)] + ["", None]
    found = categories(catalogue(len(genres), genres=genres), "genres")
    assert found.names == ["Drama", "War", "G0", "G1", "G2", "G3", "G4"]
    assert found.codes.tolist() == [0] * 5 + [1] * 4 + [2, 3, 4, 5, 6] + [-1] * 6


@pytest.mark.parametrize("field", [None, "absent"])
def test_without_a_field_there_is_no_category(field: str | None) -> None:
    found = categories(catalogue(3), field)
    assert (found.field, found.names, found.codes.tolist()) == (None, [], [-1, -1, -1])


needs_umap = pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn (extra `umap`) is not installed")
WAYS = pytest.mark.parametrize("name", ["t-SNE", pytest.param("UMAP", marks=needs_umap)])


def test_umap_is_there_where_it_is_installed() -> None:
    assert list(projections()) == (["t-SNE"] if find_spec("umap") is None else ["t-SNE", "UMAP"])


@WAYS
def test_a_projection_keeps_groups_apart_and_depends_on_the_seed_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 8), 12, axis=0)
    unit = (centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    places = projections()[name](unit, 7)
    assert places.shape == (36, 2) and np.isfinite(places).all()
    assert (places == projections()[name](unit, 7)).all()
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag(np.full(36, np.inf))
    assert (distances.argmin(axis=1) // 12 == np.arange(36) // 12).all()


@WAYS
def test_ten_items_on_one_line_have_a_map(name: str) -> None:
    line = np.array([[1.0, 0.0], [-1.0, 0.0]] * 5, np.float32)
    assert np.isfinite(projections()[name](line, 0)).all()


def test_each_kind_has_its_map_and_the_aligned_ones_share_one() -> None:
    parts = vectors()
    parts["collaborative"][[4, 9]] = 0
    rows = np.setdiff1d(np.arange(40), [4, 9])
    fit = fit_held_out(parts["text"], parts["collaborative"], rows, SETTINGS, seed=1)
    maps = draw_maps(parts["text"], parts["collaborative"], fit, first_axes, seed=1)
    assert len(maps.text.rows) == 40 and maps.collaborative.rows.tolist() == rows.tolist()
    assert maps.after.places is not None and maps.after.places.shape == (2 * 38, 2)
    assert (maps.is_held_out == fit.is_held_out).all()
    assert (maps.after.places[38:] == first_axes(unit_rows(parts["collaborative"][rows]), 0)).all()


def test_of_many_items_a_draw_is_shown() -> None:
    n, quick = MOST_POINTS + 500, SETTINGS.model_copy(update={"epochs": 1})
    parts = vectors(n)
    fit = fit_held_out(parts["text"], parts["collaborative"], np.arange(n), quick, seed=1, most=MOST_POINTS)
    first, again = (draw_maps(parts["text"], parts["collaborative"], fit, first_axes, seed=5) for _ in range(2))
    assert len(first.text.rows) == MOST_POINTS and len(first.after.rows) == MOST_POINTS // 2
    assert (first.text.rows == again.text.rows).all() and len(first.is_held_out) == MOST_POINTS // 2
    assert 0 < first.is_held_out.sum() < MOST_POINTS // 4


def test_what_cannot_be_drawn_says_why() -> None:
    few = vectors(9)
    maps = draw_maps(few["text"], few["collaborative"], None, first_axes, seed=1)
    assert maps.text.places is maps.after.places is None
    assert maps.text.why == "9 items have such a vector, and 10 are needed"
    assert maps.after.why == "too few items have both a text and a collaborative vector"
    alike = draw_maps(np.ones((30, 4), np.float32), vectors(30)["collaborative"], None, first_axes, seed=1)
    assert alike.text.why == "all vectors are alike" and alike.collaborative.places is not None


def test_vectors_of_one_dimension_have_a_map() -> None:
    line = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    maps = draw_maps(line, line, None, projections()["t-SNE"], seed=1)
    assert maps.text.places is not None and maps.text.places.shape == (20, 2) and np.isfinite(maps.text.places).all()
