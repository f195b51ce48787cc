"""The two classifiers that predictors without an LLM end in, from scikit-learn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.language_models.sizing.hardware import threads

Features = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int8] | NDArray[np.float64]
ROWS_AT_ONCE = 8192


class Classifier(Protocol):
    """What is fitted on features (n, k) and labels (n,) of both classes."""

    def fit(self, features: Features, labels: Labels) -> Any:
        """Fit; what it returns is not used."""

    def predict_proba(self, features: Features) -> NDArray[np.float64]:
        """Probability (n, 2) of both classes."""


def logistic_regression() -> Classifier:
    """On features of mean 0 and spread 1; one prior row pulls the weights to zero."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model: Classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model


class MeanOfTrees:
    """Mean of boosted trees that differ by their seed: half of the features are looked at for each split."""

    def __init__(self, seed: int, count: int) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.models = [
            HistGradientBoostingClassifier(
                learning_rate=0.05,
                max_iter=150,
                max_leaf_nodes=15,
                min_samples_leaf=80,
                max_features=0.5,
                early_stopping=False,
                random_state=(seed + number) % 2**32,
            )
            for number in range(count)
        ]

    def fit(self, features: Features, labels: Labels) -> MeanOfTrees:
        """Fit each of them."""
        with _workers() as pool:
            list(pool.map(lambda model: model.fit(features, labels), self.models))
        return self

    def predict_proba(self, features: Features) -> NDArray[np.float64]:
        """Their mean, (n, 2); some rows at a time, which stay in the processor's cache while all trees see them."""
        starts = range(0, len(features), ROWS_AT_ONCE)
        with _workers() as pool:
            parts = pool.map(lambda start: self._mean(features[start : start + ROWS_AT_ONCE]), starts)
            return np.concatenate([np.zeros((0, 2)), *parts])

    def _mean(self, features: Features) -> NDArray[np.float64]:
        return np.asarray(np.mean([model.predict_proba(features) for model in self.models], axis=0), np.float64)


def _workers() -> ThreadPoolExecutor:
    """A thread for each core, and in it a tree has that one alone.

    Threads that share a tree wait for one another by spinning: on a busy machine two take twenty times as long as one.
    """
    from threadpoolctl import threadpool_limits

    return ThreadPoolExecutor(threads(), initializer=lambda: threadpool_limits(1, "openmp"))
