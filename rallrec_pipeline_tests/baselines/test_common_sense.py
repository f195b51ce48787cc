from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from rallrec_pipeline.baselines.common_sense import (
    COMMON_SENSE,
    common_sense_features,
    predict_common_sense,
)
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.evaluation.measures.metrics import evaluate


def _world(rows: int = 3000, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Statistics and samples where liking depends on item, user and mood."""
    rng = np.random.default_rng(seed)
    item, user = rng.normal(3.5, 0.5, rows), rng.normal(3.5, 0.4, rows)
    recent = user + rng.normal(0, 0.3, rows)
    rating = np.clip(np.round(item + user + recent - 7 + rng.normal(0, 0.7, rows)), 1, 5)
    split = np.repeat(["train", "valid", "test"], [rows * 8 // 10, rows // 10, rows // 10])
    statistics = pl.DataFrame(
        {
            "sample_id": np.arange(rows),
            "item_mean": item.astype(np.float32),
            "item_count": rng.integers(0, 300, rows).astype(np.int32),
            "user_mean": user.astype(np.float32),
            "user_count": rng.integers(5, 200, rows).astype(np.int32),
            "recent_mean": recent.astype(np.float32),
            "global_mean": np.full(rows, 3.5, np.float32),
        }
    )
    samples = pl.DataFrame(
        {
            "sample_id": np.arange(rows),
            "split": split,
            "rating": rating.astype(np.float32),
            "label": (rating > 3).astype(np.int8),
        }
    )
    return statistics, samples


def test_one_probability_for_each_sample() -> None:
    statistics, samples = _world()
    found = predict_common_sense(statistics, samples, like_above=3, seed=0)
    assert list(found) == list(COMMON_SENSE)
    for p in found.values():
        assert p.shape == (3000,) and ((p > 0) & (p < 1)).all()


def test_single_means_keep_their_order_and_models_of_all_features_rank_better() -> None:
    statistics, samples = _world()
    found = predict_common_sense(statistics, samples, like_above=3, seed=0)
    is_test = samples["split"] == "test"
    labels, rows = samples.filter(is_test)["label"].to_numpy(), statistics.filter(is_test)
    test = {name: p[is_test.to_numpy()] for name, p in found.items()}
    scores = {name: evaluate(labels, p) for name, p in test.items()}
    for name in ("item_mean", "user_mean", "recent_mean"):
        order = np.argsort(rows[name].to_numpy())
        assert (np.diff(test[name][order]) >= 0).all()
    best_mean = max(scores[name].auc for name in ("item_mean", "user_mean", "recent_mean"))
    assert min(scores["logistic_regression"].auc, scores["boosted_trees"].auc) > best_mean + 0.03
    assert all(metrics.log_loss < 0.69 for metrics in scores.values())


def test_labels_and_ratings_of_validation_and_test_are_never_looked_at() -> None:
    statistics, samples = _world()
    held_out = pl.col("split") != "train"
    changed = samples.with_columns(
        label=pl.when(held_out).then(1 - pl.col("label")).otherwise(pl.col("label")),
        rating=pl.when(held_out).then(6 - pl.col("rating")).otherwise(pl.col("rating")),
    )
    first, second = (predict_common_sense(statistics, s, like_above=3, seed=0) for s in (samples, changed))
    for name in COMMON_SENSE:
        np.testing.assert_array_equal(first[name], second[name])


def test_statistics_of_validation_and_test_change_no_other_row() -> None:
    statistics, samples = _world()
    changed = statistics.with_columns(
        item_mean=pl.when(pl.col("sample_id") == 2999).then(pl.lit(1.0, pl.Float32)).otherwise("item_mean")
    )
    first, second = (predict_common_sense(s, samples, like_above=3, seed=0) for s in (statistics, changed))
    for name in COMMON_SENSE:
        np.testing.assert_array_equal(first[name][:-1], second[name][:-1])
    assert second["item_mean"][-1] < first["item_mean"][-1]


def test_same_seed_same_predictions() -> None:
    first, second = (predict_common_sense(*_world(), like_above=3, seed=4) for _ in range(2))
    for name in COMMON_SENSE:
        np.testing.assert_array_equal(first[name], second[name])


def test_missing_statistics_fall_back_on_the_global_mean() -> None:
    statistics, samples = _world(50)
    empty = statistics.with_columns(
        item_mean=pl.lit(None, pl.Float32),
        recent_mean=pl.lit(float("nan"), pl.Float32),
        item_count=pl.lit(None, pl.Int32),
    )
    features = common_sense_features(empty, samples, like_above=3)
    assert features["item_mean"].unique().to_list() == pytest.approx([0.5])
    assert features["recent_mean"].unique().to_list() == pytest.approx([0.5])
    assert np.isfinite(features.to_numpy()).all()


def test_a_handful_of_samples_is_enough() -> None:
    found = predict_common_sense(*_world(40), like_above=3, seed=0)
    assert all(np.isfinite(p).all() and p.shape == (40,) for p in found.values())


def test_a_single_class_and_mismatched_rows_are_refused() -> None:
    statistics, samples = _world(100)
    with pytest.raises(DataError, match="one class"):
        predict_common_sense(statistics, samples.with_columns(label=pl.lit(1, pl.Int8)), like_above=3, seed=0)
    with pytest.raises(DataError, match="different rows"):
        predict_common_sense(statistics.reverse(), samples, like_above=3, seed=0)
