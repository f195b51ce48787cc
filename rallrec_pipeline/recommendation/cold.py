"""Items without a training rating: what the factorisation would know of them, read off their texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.fit import ExpertFit

Floats = NDArray[np.float32]
PENALTY = 100.0  # in ratings: a direction of the texts that fewer ratings tell of counts for little
MOST = 512  # directions of the texts that are looked at


def with_cold_items(fit: ExpertFit, text: Floats) -> ExpertFit:
    """`fit` in which items without ratings have the bias and factors that a regression on `text` (m, d) expects.

    Ridge regression of bias and factors on centred text vectors, each item with the weight of its ratings. Items with
    ratings stay as they are.
    """
    counts, model = fit.counts(), fit.factorisation
    rated = counts > 0
    if not rated.any() or rated.all():
        return fit
    weights = np.minimum(counts[rated], PENALTY)[:, None].astype(np.float64)
    centre = text[rated].mean(axis=0, dtype=np.float64)
    centred = (text - centre)[:, :MOST]
    known = np.column_stack([model.biases, model.factors])[rated].astype(np.float64)
    mean = (weights * known).sum(axis=0) / weights.sum()
    inputs = centred[rated]
    spread = np.einsum("ij,ij->", inputs, inputs) / max(1, len(inputs))
    system = inputs.T @ (weights * inputs) + PENALTY * max(spread, 1e-12) * np.eye(inputs.shape[1])
    expected = centred[~rated] @ np.linalg.solve(system, inputs.T @ (weights * (known - mean))) + mean
    biases, factors = model.biases.copy(), model.factors.copy()
    biases[~rated], factors[~rated] = expected[:, 0], expected[:, 1:]
    return replace(fit, factorisation=replace(model, biases=biases, factors=factors))
