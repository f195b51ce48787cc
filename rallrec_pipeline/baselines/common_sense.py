"""Common-sense baselines on a handful of history statistics, fitted on the training split only.

An LLM that does not beat them does not earn its cost. Three are single means, each passed through a logistic
curve so that its log loss means something; two combine all statistics.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import Classifier, logistic_regression
from rallrec_pipeline.errors import DataError

Floats = NDArray[np.float64]

COMMON_SENSE: dict[str, str] = {
    "item_mean": "item mean",
    "user_mean": "user mean",
    "recent_mean": "mean of the last ten ratings",
    "logistic_regression": "logistic regression on history statistics",
    "boosted_trees": "boosted trees on history statistics",
}
"""Name -> title, in the order of the report."""

_MEANS = ("item_mean", "user_mean", "recent_mean")
_FEWEST_FOR_STOPPING = 200  # rows of the rarer class; with fewer, a held-out tenth is noise


def predict_common_sense(
    statistics: pl.DataFrame, samples: pl.DataFrame, like_above: float, seed: int
) -> dict[str, Floats]:
    """P(yes) of every row of `samples`, in their order: baseline -> (n,) float64, fitted on train rows only.

    `statistics` is `rating_statistics` of the same samples, row by row; labels of other splits are never looked
    at. Figures of train rows are those of the fit, so they say nothing about quality.
    Raises DataError when the tables do not match, or the training rows are of one class.
    """
    features = common_sense_features(statistics, samples, like_above)
    train = (samples["split"] == "train").to_numpy()
    labels = samples.filter(pl.Series(train))["label"].to_numpy()
    if np.unique(labels).size < 2:
        raise DataError(
            f"the {labels.size} training samples are of one class, so no baseline can be fitted:"
            " check the dataset's `like_above` and its split"
        )
    inputs = {name: [name] for name in _MEANS}
    predictions = {}
    for name in COMMON_SENSE:
        x = features.select(inputs.get(name, features.columns)).to_numpy()
        model = _boosted_trees(labels, seed) if name == "boosted_trees" else logistic_regression()
        model.fit(x[train], labels)
        predictions[name] = model.predict_proba(x)[:, 1]
    return predictions


def common_sense_features(statistics: pl.DataFrame, samples: pl.DataFrame, like_above: float) -> pl.DataFrame:
    """Features of every sample, Float64 without nulls: means relative to the like threshold, logs of counts.

    The global mean is left out: it does not tell one row from another.
    """
    if not statistics["sample_id"].equals(samples["sample_id"], null_equal=True):
        raise DataError("rating statistics and samples are of different rows: make both again from the same samples")
    mean = [pl.col(name).fill_nan(None).fill_null(pl.col("global_mean")) - like_above for name in _MEANS]
    count = [pl.col(name).fill_null(0).log1p() for name in ("item_count", "user_count")]
    features = statistics.select([column.cast(pl.Float64) for column in mean + count])
    # a user's mood against the usual: linear in the means, but a cut that trees would need two splits for
    return features.with_columns(
        (pl.col("recent_mean") - pl.col("user_mean")).alias("mood"),
        (pl.col("item_mean") + pl.col("user_mean")).alias("item_and_user"),
    ).fill_nan(0.0)


def _boosted_trees(labels: NDArray[np.int8], seed: int) -> Classifier:
    """Small, slow-learning trees, stopped early on a random tenth of the training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    stopping = bool(np.bincount(labels).min() >= _FEWEST_FOR_STOPPING)
    model: Classifier = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=300 if stopping else 50,
        max_leaf_nodes=15,
        min_samples_leaf=50 if stopping else 5,
        l2_regularization=1.0,
        early_stopping=stopping,
        n_iter_no_change=15,
        random_state=seed,
    )
    return model
