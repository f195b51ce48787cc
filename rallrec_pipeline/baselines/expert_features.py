"""What the experts are told of a row: numbers from the user's earlier ratings and from what was fitted before.

Features come in groups, so that what an expert needs can be told and timed by itself. Each group fits to the ratings
that may be seen and then describes rows: training rows out of time, validation and test rows after the whole training
split. Of the user of a row only the history is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.factorisation import ITEM_SHRINKAGE, Factorisation, fit_factorisation
from rallrec_pipeline.baselines.item_knn import Similarity, co_rating, neighbours, text_likeness
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import Rows, Seen
from rallrec_pipeline.datasets.sequences import UserSequences

Floats = NDArray[np.float32]
Features = Mapping[str, Floats]
"""Name -> (n,) float32, finite."""
Group = Literal["means", "factorisation", "co_rating", "text"]

CO_RATED, TEXTS = (5, 15, 40), (3, 10, 40)  # how many nearest items are asked
LATE = (10, 3)  # last ratings of a history that have a mean of their own


class History(Protocol):
    """Whose ratings rows are described by: a `RatingLog`, or the ratings of today."""

    @property
    def sequences(self) -> UserSequences:
        """All ratings, user by user."""

    @property
    def is_sampled(self) -> bool:
        """Whether ratings are likes alone, and dislikes are sampled."""

    def histories(self, rows: Rows) -> Runs:
        """Where the histories of `rows` lie among them."""


Described = Callable[[Rows], Mapping[str, NDArray[Any]]]
"""Makes the features of rows."""
Fitted = Callable[[History], Described]
"""What was fitted to ratings, for the rows of any history."""


class Describer:
    """Makes the features of a dataset's rows; `text` (m, d) float32 are vectors of all items."""

    def __init__(self, log: History, text: Floats, like_above: float, seed: int) -> None:
        self.log, self.text, self.like_above, self.seed = log, text, like_above, seed

    def features(self, group: Group, seen: Seen, rows: Rows) -> Features:
        """Features of `rows` by what was `seen`."""
        return self.fitted(group, seen)(rows)

    def fitted(self, group: Group, seen: Seen) -> Callable[[Rows], Features]:
        """What makes features of any rows by what was `seen`; it is fitted once."""
        return as_features(self.fit(group, seen)(self.log))

    def fit(self, group: Group, seen: Seen) -> Fitted:
        """The same for rows of another history, too, whose items have the same codes."""
        made: dict[Group, Callable[[Seen], Fitted]] = {
            "means": self._means,
            "factorisation": lambda seen: by_factorisation(self.factorisation(seen)),
            "co_rating": self._co_rating,
            "text": self._text,
        }
        return made[group](seen)

    def factorisation(self, seen: Seen) -> Factorisation:
        """The factorisation of what was `seen`."""
        return fit_factorisation(seen.judged, len(self.log.sequences.item_ids), self.seed, self.like_above)

    def _means(self, seen: Seen) -> Fitted:
        """Means and counts of the item and of the history; of an empty history they are those of all ratings."""
        mean, item_means, counts = self._item_means(seen)

        def of(log: History) -> Described:
            ratings = log.sequences.ratings.astype(np.float64)
            deviations = ratings - item_means[log.sequences.items]

            def describe(rows: Rows) -> dict[str, NDArray[Any]]:
                histories = log.histories(rows)
                user_mean = histories.means(ratings, mean)
                spread = np.sqrt(np.maximum(histories.means(ratings**2, mean**2) - user_mean**2, 0))
                found = {
                    "item_mean": item_means[rows.targets],
                    "item_count": np.log1p(counts[rows.targets]),
                    "user_mean": user_mean,
                    "user_count": np.log1p(rows.lengths),
                    "user_spread": spread,
                    "user_deviation": histories.means(deviations, 0.0),
                    "late_deviation": histories.means(deviations, 0.0, LATE[0]),
                }
                return found | {f"last_{last}": histories.means(ratings, mean, last) for last in LATE}

            return describe

        return of

    def _co_rating(self, seen: Seen) -> Fitted:
        similarity = co_rating(seen.ratings, len(self.log.sequences.item_ids), centred=not self.log.is_sampled)
        return self._neighbours("co_rating", similarity, CO_RATED, seen)

    def _text(self, seen: Seen) -> Fitted:
        return self._neighbours("text", text_likeness(self.text), TEXTS, seen)

    def _neighbours(self, name: str, similarity: Similarity, ks: tuple[int, ...], seen: Seen) -> Fitted:
        _, item_means, _ = self._item_means(seen)

        def of(log: History) -> Described:
            items, deviations = log.sequences.items, log.sequences.ratings - item_means[log.sequences.items]
            told = deviations.astype(np.float32)

            def describe(rows: Rows) -> dict[str, NDArray[Any]]:
                near = neighbours(similarity, items, told, log.histories(rows), rows.targets, len(item_means), ks)
                found = {f"{name}_{k}": near.deviations[:, column] for column, k in enumerate(ks)}
                return found | {f"{name}_highest": near.highest, f"{name}_total": near.total}

            return describe

        return of

    def _item_means(self, seen: Seen) -> tuple[float, NDArray[np.float64], NDArray[np.int64]]:
        """Mean of all that was judged, shrunk means and counts (m,) of the items."""
        judged, n_items = seen.judged, len(self.log.sequences.item_ids)
        mean = float(judged.values.mean(dtype=np.float64)) if len(judged) else self.like_above
        counts = np.bincount(judged.items, minlength=n_items)
        sums = np.bincount(judged.items, judged.values, n_items)
        return mean, (sums + ITEM_SHRINKAGE * mean) / (counts + ITEM_SHRINKAGE), counts


def by_factorisation(model: Factorisation) -> Fitted:
    """The features of the group `factorisation`, by a model that is there."""

    def of(log: History) -> Described:
        items, ratings = log.sequences.items, log.sequences.ratings

        def describe(rows: Rows) -> dict[str, NDArray[Any]]:
            near, flat, targets = model, items, rows.targets
            if len(items) + len(rows) < len(model.biases):  # a few of many items: only theirs are copied about
                known, places = np.unique(np.concatenate([items, rows.targets]), return_inverse=True)
                near, flat, targets = model.among(known), *np.split(places.astype(np.int32), [len(items)])
            opinion = near.opinions(flat, ratings, log.histories(rows), targets, one_sided=log.is_sampled)
            return {"factorisation": opinion.rating, "factorisation_bias": opinion.bias}

        return describe

    return of


def as_features(describe: Described) -> Callable[[Rows], Features]:
    """What `describe` makes, as float32."""
    return lambda rows: {name: np.asarray(values, np.float32) for name, values in describe(rows).items()}


def matrix(features: Features) -> Floats:
    """The features side by side, (n, k) float32."""
    return np.stack(list(features.values()), axis=1)
