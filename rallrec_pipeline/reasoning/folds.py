"""Values for rows that a fit was made on, from fits that left their user out: no choice is fooled by its own fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.reasoning.opinions import Floats

FOLDS = 5
FitPredict = Callable[[Floats, Floats, Floats], Floats]
"""Features (n, k) and targets (n,) to fit on, features (m, k) to predict; returns (m,)."""


def out_of_fold(fit_predict: FitPredict, features: Floats, targets: Floats, groups: NDArray[np.int64]) -> Floats:
    """A value for each row (n,) from a fit without the rows of its group; the groups are dealt out by size.

    With fewer than two groups there is nothing to leave out: then the mean target stands for all rows.
    """
    found, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if found.size < 2:
        return np.full(targets.size, float(np.mean(targets)) if targets.size else 0.0)
    fold_of = np.empty(found.size, dtype=np.int64)
    fold_of[np.argsort(-sizes, kind="stable")] = np.arange(found.size) % min(FOLDS, found.size)
    values = np.empty(targets.size)
    for fold in np.unique(fold_of):
        held = fold_of[codes] == fold
        values[held] = fit_predict(features[~held], targets[~held], features[held])
    return values
