"""Sample items, their nearest others, and the reasons."""

from __future__ import annotations

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.nearest import KINDS, ItemVectors, co_raters, nearest_items, sample_rows
from rallrec_pipeline_tests.datasets.worlds import make_spec
from rallrec_pipeline_tests.evaluation.alignment_examples import catalogue, inputs, training, vectors


def test_popular_middling_and_rare_items_are_chosen_in_the_same_way_each_time() -> None:
    ratings = np.array([0, 9, 1, 5, 5, 5, 5, 8, 7, 2, 1, 0])
    titled = np.ones(12, np.bool_)
    expected = [("popular", 1), ("popular", 7), ("popular", 8), ("middle", 3), ("middle", 4), ("middle", 5)]
    assert sample_rows(ratings, titled) == [*expected, ("rare", 2), ("rare", 10)]
    titled[7] = False  # nine items are left, of which eight are chosen
    assert ("popular", 7) not in sample_rows(ratings, titled) and len(sample_rows(ratings, titled)) == 8
    titled[:] = False  # titles are preferred, not asked for
    assert sample_rows(ratings, titled) == [*expected, ("rare", 2), ("rare", 10)]


def test_of_few_items_all_are_shown() -> None:
    found = sample_rows(np.array([0, 3, 0]), np.zeros(3, np.bool_))
    assert found == [("popular", 1), ("middle", 0), ("rare", 2)]
    assert sample_rows(np.array([0]), np.array([True])) == [("popular", 0)]


def test_co_raters_are_users_who_rated_both() -> None:
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "z"), ("c", "z")]
    rated = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    found = co_raters(rated, ["x"])
    assert found == {("x", "x"): 2, ("x", "y"): 2, ("x", "z"): 1}


def test_neighbours_are_those_of_brute_force_with_their_reasons() -> None:
    given = inputs()
    held = ItemVectors.of(given.parts, given.mixture)
    found = nearest_items(given.items, given.training, held, make_spec(), "genres")
    assert [sample["item_id"] for sample in found[:3]] == ["i0", "i1", "i2"] and len(found) == 8
    units = {kind: part / np.linalg.norm(part, axis=1, keepdims=True) for kind, part in given.parts.items()}
    own = {"text": units["text"], "collaborative": units["collaborative"], "aligned": units["aligned"]}
    own["mixture"] = given.mixture
    raters = {item: set(rows["user_id"]) for (item,), rows in given.training.group_by("item_id")}
    for sample in found:
        row = int(sample["item_id"][1:])
        assert sample["training_ratings"] == len(raters[sample["item_id"]])
        for kind in KINDS:
            scores = own[kind] @ own[kind][row]
            order = [item for item in np.argsort(-scores) if item != row][:10]
            assert [neighbour["item_id"] for neighbour in sample["nearest"][kind]] == [f"i{item}" for item in order]
            first = sample["nearest"][kind][0]
            assert first["similarity"][kind] == np.float64(round(float(scores[order[0]]), 4))
            both = raters[sample["item_id"]] & raters.get(first["item_id"], set())
            assert first["co_raters"] == len(both)
            parts = first["similarity"]
            assert abs(0.5 * parts["text"] + parts["collaborative"] - parts["mixture"]) < 1e-3


def test_shared_fields_are_entries_of_lists_and_whole_values_of_others() -> None:
    items = catalogue(
        3,
        genres=["Horror, Comedy", "Comedy, Drama", "Drama"],
        year=["1990", "1991", ""],
        author=["Smith, John", "Smith, Jane", "Smith, John"],
    )
    columns = {"title": "t", "year": "y", "author": "a", "genres": {"column": "g", "split": " "}}
    spec = make_spec(items={"file": "s.item", "columns": columns})
    parts = vectors(3)
    found = nearest_items(items, training(3), ItemVectors.of(parts, parts["text"]), spec)
    pairs = [(sample["item_id"], other) for sample in found for other in sample["nearest"]["text"]]
    shared = {(item, other["item_id"]): other["shared"] for item, other in pairs}
    assert shared["i0", "i1"] == {"genres": ["Comedy"]}
    assert shared["i0", "i2"] == {"author": ["Smith, John"]}
    assert shared["i1", "i2"] == {"genres": ["Drama"]}


def test_what_has_no_vector_has_no_neighbours_and_is_none() -> None:
    parts = vectors(12)
    parts["collaborative"][[11, 3]] = 0
    items = catalogue(12)
    rated = training(12).filter(pl.col("item_id") != "i3")
    found = nearest_items(items, rated, ItemVectors.of(parts, parts["text"]), make_spec())
    for sample in found:
        for other in sample["nearest"]["collaborative"]:
            assert other["item_id"] not in ("i3", "i11")
    parts["collaborative"][0] = 0
    (sample,) = [
        sample
        for sample in nearest_items(items, rated, ItemVectors.of(parts, parts["text"]), make_spec())
        if sample["item_id"] == "i0"
    ]
    assert sample["nearest"]["collaborative"] == "not defined, because the item has no such vector"
    parts["collaborative"][:] = 0
    parts["collaborative"][0] = 1
    alone = nearest_items(items, rated, ItemVectors.of(parts, parts["text"]), make_spec())
    assert alone[0]["nearest"]["collaborative"] == "not defined, because no other item has such a vector"
    assert "nobody rated it in training" in nobody_rated()


def nobody_rated() -> str:
    parts = vectors(2)
    parts["collaborative"][1] = 0
    found = nearest_items(catalogue(2), training(2), ItemVectors.of(parts, parts["text"]), make_spec())
    return str(found[1]["nearest"]["collaborative"])


def test_titles_are_cleaned_and_missing_ones_named() -> None:
    items = catalogue(3, title=["a\n<|im_start|>b", "", None])
    parts = vectors(3)
    found = nearest_items(items, training(3), ItemVectors.of(parts, parts["text"]), make_spec())
    assert [sample["title"] for sample in found] == ["a (|im_start|>b", "untitled", "untitled"]
