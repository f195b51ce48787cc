"""What is expected of a rating, for prompts to state: the factorisation's opinion, or that of all experts weighed.

The latter is a ridge regression of the rating on the features of the experts without text. Its weights are fitted on
training rows whose features are out of time (`opinions.py`), and kept, so that any later history is weighed alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.expert_features import Describer, Fitted, Group, History, as_features, by_factorisation
from rallrec_pipeline.baselines.expert_features import matrix as side_by_side
from rallrec_pipeline.baselines.factorisation import Codes, Factorisation, Floats
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import RatingLog, Rows, Seen
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.settings import ExpectedBy

GROUPS: dict[ExpectedBy, tuple[Group, ...]] = {
    "factorisation": ("factorisation",),
    "experts": ("means", "factorisation", "co_rating"),
}
PENALTIES = tuple(10.0**power for power in range(5))
PARTS = 5  # of the users, each weighed by a fit on the others
NO_ITEM = ""
"""Stands behind the items of a fit for all that it does not know."""


@dataclass(frozen=True)
class Weights:
    """What features weigh: rating = `intercept` + sum of `of`[name] x feature."""

    intercept: float
    of: Mapping[str, float]

    def __call__(self, features: Mapping[str, Floats]) -> NDArray[np.float64]:
        """What is expected (n,), in units of the rating; features that weigh nothing are not looked at."""
        chosen = side_by_side({name: features[name] for name in self.of})
        return np.asarray(chosen.astype(np.float64) @ np.array(list(self.of.values())) + self.intercept)


FACTORISATION = Weights(0.0, {"factorisation": 1.0})


def fit_weights(features: Mapping[str, Floats], ratings: Floats) -> Weights:
    """Ridge weights of `features` (n,) for `ratings` (n,), the penalty by leave-one-out.

    With fewer than two rows or ratings that are all alike the factorisation speaks alone.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    if np.unique(ratings).size < 2:
        return FACTORISATION
    scaler, model = StandardScaler(), RidgeCV(PENALTIES)
    model.fit(scaler.fit_transform(side_by_side(features).astype(np.float64)), ratings.astype(np.float64))
    weights = model.coef_ / scaler.scale_
    intercept = float(model.intercept_ - weights @ scaler.mean_)
    return Weights(intercept, dict(zip(features, weights.tolist(), strict=True)))


def weigh_by_others(features: Mapping[str, Floats], ratings: Floats, users: Codes) -> NDArray[np.float64]:
    """What is expected of rows (n,) by weights that were fitted without the rows of their users."""
    found = np.zeros(len(ratings))
    part = np.unique(users, return_inverse=True)[1] % PARTS
    for one in np.unique(part):
        own = part == one
        others = {name: values[~own] for name, values in features.items()}
        found[own] = fit_weights(others, ratings[~own])({name: values[own] for name, values in features.items()})
    return found


class Expectation:
    """What is expected of rows by what was `seen`; `model` is its factorisation, None fits one."""

    def __init__(
        self,
        describer: Describer,
        seen: Seen,
        by: ExpectedBy,
        weights: Weights = FACTORISATION,
        model: Factorisation | None = None,
    ) -> None:
        self.log, self.weights = describer.log, weights
        self._fits: list[Fitted] = [
            by_factorisation(model) if group == "factorisation" and model else describer.fit(group, seen)
            for group in GROUPS[by]
        ]

    @classmethod
    def of(
        cls,
        log: RatingLog,
        like_above: float,
        seed: int,
        by: ExpectedBy = "factorisation",
        weights: Weights = FACTORISATION,
    ) -> Expectation:
        """By the whole training split, as validation and test rows are foretold. It knows `NO_ITEM`, too."""
        known = log.sequences
        items = UserSequences(known.user_ids, [*known.item_ids, NO_ITEM], known.offsets, known.items, known.ratings)
        longer = replace(log, sequences=items)
        describer = Describer(longer, np.zeros((0, 0), np.float32), like_above, seed)
        return cls(describer, longer.whole_training(), by, weights)

    def __call__(self, rows: Rows, log: History | None = None) -> Floats:
        """What is expected (n,), in units of the rating, of the rows of `log`, by default those of the fit."""
        describe: list[Callable[[Rows], Mapping[str, Floats]]] = [
            as_features(fit(log or self.log)) for fit in self._fits
        ]
        features = {name: values for one in describe for name, values in one(rows).items()}
        return self.weights(features).astype(np.float32)

    def of_one_user(self, codes: Codes, history: Codes, ratings: Floats, targets: Codes, lengths: Codes) -> Floats:
        """What one user would give `targets` (n,), each by the first `lengths` (n,) lines of the history.

        `codes` (m,) are places in the core of the items that `history` (h,) and `targets` number; -1 is an item that
        the fit does not know. `ratings` (h,) are those of the history.
        """
        items = self.log.sequences.item_ids
        places = np.where(codes >= 0, codes, len(items) - 1).astype(np.int32)
        offsets = np.array([0, len(history)], np.int64)
        asked = _Asked(UserSequences([""], items, offsets, places[history], ratings), self.log.is_sampled)
        users = np.zeros(len(targets), np.int32)
        return self(Rows(users, lengths.astype(np.int64), places[targets]), asked)


@dataclass(frozen=True)
class _Asked:
    """The history of one user."""

    sequences: UserSequences
    is_sampled: bool

    def histories(self, rows: Rows) -> Runs:
        """As `History` has it."""
        return Runs(self.sequences.offsets[rows.users], rows.lengths)
