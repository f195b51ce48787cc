"""What is expected of a rating, for prompts to state: the factorisation's opinion, or several experts' weighed.

The latter is a ridge regression of the rating on means, factorisation and item kNN. Its weights are fitted on training
rows whose features are out of time (`opinions.py`), and kept, so that any later history is weighed alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expert_features import (
    Describer,
    Fitted,
    Group,
    History,
    as_features,
    by_factorisation,
    matrix,
)
from rallrec_pipeline.baselines.factorisation import Codes, Factorisation, Floats
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import RatingLog, Rows, Seen
from rallrec_pipeline.datasets.sequences import UserSequences

WEIGHED: tuple[Group, ...] = ("means", "factorisation", "co_rating")
PENALTIES = tuple(10.0**power for power in range(5))
FEWEST = 100  # rows that weights are fitted on: 16 of them
NO_ITEM = ""
"""Stands behind the items of a fit for all that it does not know."""


@dataclass(frozen=True)
class Weights:
    """What features weigh: rating = `intercept` + sum of weight x feature, from `lowest` to `highest`."""

    intercept: float
    by_feature: Mapping[str, float]
    lowest: float = -np.inf
    highest: float = np.inf

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of features that weigh something."""
        return ("factorisation",) if set(self.by_feature) == {"factorisation"} else WEIGHED

    def __call__(self, features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """What is expected (n,), in units of the rating; features that weigh nothing are not looked at."""
        found = np.full(len(next(iter(features.values()))), self.intercept)
        for name, weight in self.by_feature.items():
            found += weight * features[name].astype(np.float64)
        return np.clip(found, self.lowest, self.highest)


FACTORISATION = Weights(0.0, {"factorisation": 1.0})


def fit_weights(features: Mapping[str, Floats], ratings: Floats) -> Weights:
    """Ridge weights of `features` (n,) for `ratings` (n,), the penalty by leave-one-out.

    Fewer than `FEWEST` rows, or ratings that are all alike, tell nothing: then the factorisation speaks alone.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    if len(ratings) < FEWEST or np.unique(ratings).size < 2:
        return FACTORISATION
    scaler, model = StandardScaler(), RidgeCV(PENALTIES)
    model.fit(scaler.fit_transform(matrix(features).astype(np.float64)), ratings.astype(np.float64))
    weights = model.coef_ / scaler.scale_
    intercept = float(model.intercept_ - weights @ scaler.mean_)
    of_features = dict(zip(features, weights.tolist(), strict=True))
    return Weights(intercept, of_features, float(ratings.min()), float(ratings.max()))


class Expectation:
    """What is expected of ratings after any history, by what was `seen`; without `model` a factorisation is fitted."""

    def __init__(
        self, describer: Describer, seen: Seen, weights: Weights = FACTORISATION, model: Factorisation | None = None
    ) -> None:
        self.weights, self.is_sampled = weights, describer.log.is_sampled
        self.items = len(describer.log.sequences.item_ids)
        self._fits: list[Fitted] = [
            by_factorisation(model) if group == "factorisation" and model is not None else describer.fit(group, seen)
            for group in weights.groups
        ]

    @classmethod
    def of(cls, log: RatingLog, like_above: float, seed: int, weights: Weights = FACTORISATION) -> Expectation:
        """By the whole training split, as validation and test rows are foretold. It knows `NO_ITEM`, too."""
        known = log.sequences
        items = UserSequences(known.user_ids, [*known.item_ids, NO_ITEM], known.offsets, known.items, known.ratings)
        longer = replace(log, sequences=items)
        describer = Describer(longer, np.zeros((0, 0), np.float32), like_above, seed)
        return cls(describer, longer.whole_training(), weights)

    def __call__(self, log: History, rows: Rows) -> Floats:
        """What is expected (n,), in units of the rating, of `rows`, whose histories are in `log`."""
        described = [as_features(fit(log))(rows) for fit in self._fits]
        features = {name: values for one in described for name, values in one.items()}
        return self.weights(features).astype(np.float32)

    def of_one_user(self, codes: Codes, history: Codes, ratings: Floats, targets: Codes, lengths: Codes) -> Floats:
        """What one user would give `targets` (n,), each by the first `lengths` (n,) lines of the history.

        `codes` (m,) are places in the core of the items that `history` (h,) and `targets` number; -1 is an item that
        the fit of `of` does not know. `ratings` (h,) are those of the history.
        """
        places = np.where(codes >= 0, codes, self.items - 1).astype(np.int32)
        asked = Histories(places[history], ratings, np.array([0, len(history)], np.int64), self.is_sampled)
        return self(asked, Rows(np.zeros(len(targets), np.int32), lengths.astype(np.int64), places[targets]))


class Histories:
    """Histories (n,) by themselves, as a `History`: flat `items` and `ratings`, that of i at `offsets`[i : i + 2]."""

    def __init__(self, items: Codes, ratings: Floats, offsets: NDArray[np.int64], is_sampled: bool) -> None:
        self.sequences = UserSequences([""] * (len(offsets) - 1), [], offsets, items, ratings)
        self.is_sampled = is_sampled

    def histories(self, rows: Rows) -> Runs:
        """As `History` has it; a user is the number of a history."""
        return Runs(self.sequences.offsets[rows.users], rows.lengths)
