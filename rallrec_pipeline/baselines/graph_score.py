"""LightGCN's score of a row, for a user who is one step of the graph away from the items of the history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.ragged import padded_batches
from rallrec_pipeline.baselines.rating_log import RatingLog, Rows

Floats = NDArray[np.float32]


def graph_features(log: RatingLog, vectors: Floats, rows: Rows) -> dict[str, Floats]:
    """Numbers of `rows` by the collaborative `vectors` (m, d): name -> (n,) float32.

    The user's vector is the sum of those of the history's items, each with the weight of its edge, over the root of the
    sum of absolute weights: eq. 4 from the user's side. `graph_near` is the dot product with the target by edges of
    weight 1 (binary graph), `graph_liked` by those of the rating minus the user's mean (signed graph); `user_mean` is
    that mean, which the signed graph leaves out.
    """
    sequences, histories = log.sequences, log.histories(rows)
    mean = histories.means(sequences.ratings.astype(np.float64), 0.0).astype(np.float32)
    found = {"user_mean": mean, "graph_near": np.zeros_like(mean), "graph_liked": np.zeros_like(mean)}
    for batch in padded_batches(histories):
        places, own = batch.places, vectors[rows.targets[batch.rows]]
        near = (vectors.take(sequences.items.take(places), axis=0) @ own[:, :, None])[:, :, 0]
        inside = places >= 0
        liked = (sequences.ratings.take(places) - mean[batch.rows, None]) * inside
        for name, weights in (("graph_near", inside.astype(np.float32)), ("graph_liked", liked)):
            strength = np.sqrt(np.abs(weights).sum(axis=1))
            total = (weights * near).sum(axis=1)
            found[name][batch.rows] = np.divide(total, strength, out=np.zeros_like(total), where=strength > 0)
    return found
