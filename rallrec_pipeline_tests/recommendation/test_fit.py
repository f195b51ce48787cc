"""A fit is kept as arrays, and scores what came after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.recommendation.cold import with_cold_items
from rallrec_pipeline.recommendation.fit import read_fit, write_fit
from rallrec_pipeline_tests.baselines.worlds import World, world
from rallrec_pipeline_tests.recommendation.worlds import recommender


@pytest.mark.parametrize("implicit", [False, True])
def test_a_stored_fit_is_the_same(tmp_path: Path, implicit: bool) -> None:
    fit = recommender(world(implicit=implicit)).fit
    write_fit(fit, tmp_path / "fit.safetensors")
    again = read_fit(tmp_path / "fit.safetensors")
    assert (again.expert, again.item_ids, again.is_sampled) == (fit.expert, fit.item_ids, implicit)
    np.testing.assert_array_equal(again.features, fit.features)
    np.testing.assert_array_equal(again.factorisation.factors, fit.factorisation.factors)
    np.testing.assert_array_equal(again.seen.judged.values, fit.seen.judged.values)


def test_a_broken_fit_is_told_in_one_line(tmp_path: Path) -> None:
    write_fit(recommender(world()).fit, tmp_path / "fit.safetensors")
    (tmp_path / "fit.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"delete it and run"):
        read_fit(tmp_path / "fit.safetensors")


def test_items_that_come_and_go_leave_the_others_as_they_were() -> None:
    fit = recommender(world()).fit
    moved = fit.among(["new", *fit.item_ids[3:]])
    np.testing.assert_array_equal(moved.factorisation.factors[1:], fit.factorisation.factors[3:])
    assert moved.counts()[0] == 0 and not moved.factorisation.biases[0]
    np.testing.assert_array_equal(moved.counts()[1:], fit.counts()[3:])


def test_an_unrated_item_is_expected_to_be_as_liked_as_items_of_its_kind() -> None:
    """Half of the users like items whose first number is high: an unrated one must rank among these."""
    made = world(users=80, each=20)
    fit = recommender(made).fit
    vectors = np.vstack([made.vectors, made.vectors[:12].mean(axis=0), made.vectors[12:].mean(axis=0)])
    cold = with_cold_items(fit.among([*made.item_ids, "like the first", "like the last"]), vectors)
    first, last = cold.factorisation.factors[-2:]
    known = cold.factorisation.factors[:-2]
    assert first @ known[:12].mean(axis=0) > last @ known[:12].mean(axis=0)
    assert last @ known[12:].mean(axis=0) > first @ known[12:].mean(axis=0)
    np.testing.assert_array_equal(known, fit.factorisation.factors)


def test_one_class_is_refused() -> None:
    made = world()
    alike = World(made.core, made.samples.with_columns(label=pl.lit(1, pl.Int8)), made.item_ids, made.vectors)
    with pytest.raises(DataError, match="one class"):
        recommender(alike)
