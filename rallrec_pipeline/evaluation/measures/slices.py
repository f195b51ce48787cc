"""Test rows by what is known of their item and user: how well a method does where data are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.evaluation.measures.bootstrap import Scores
from rallrec_pipeline.evaluation.measures.measured import Comparison, figures, measure_methods, not_defined

SLICED = ("auc", "uauc", "log_loss")
"""The measures of a slice."""
FIFTHS = 5


@dataclass(frozen=True)
class Slicing:
    """One way to cut the rows: a column of facts and the last value of each slice but the last, which is open.

    Without `ends` the slices are fifths of the test rows.
    """

    name: str
    title: str
    column: str
    ends: tuple[int, ...] = ()


SLICINGS = (
    Slicing("item_train_count", "training ratings of the item", "item_train_count", (0, 5, 20, 80)),
    Slicing("history_length", "length of the user's history", "history_length", (10, 30, 100)),
    Slicing("popularity", "popularity of the item, in fifths of the test rows", "item_train_count"),
)


@dataclass(frozen=True)
class Slice:
    """The rows (n,) whose fact lies from `low` to `high`; None is open."""

    low: int
    high: int | None
    chosen: NDArray[np.bool_]

    @property
    def name(self) -> str:
        """`0`, `1-5`, `81 or more`."""
        if self.high is None:
            return f"{self.low} or more"
        return f"{self.low}" if self.low == self.high else f"{self.low}-{self.high}"


def cut(values: NDArray[np.int64], slicing: Slicing) -> Iterator[Slice]:
    """The slices of rows (n,), by rising value; together they hold every row once."""
    if slicing.ends:
        ends = np.array(slicing.ends)
    else:  # rows of equal popularity stay together
        ends = np.unique(np.quantile(values, np.arange(1, FIFTHS) / FIFTHS, method="inverted_cdf"))
        ends = ends[ends < values.max()]
    low = 0 if slicing.ends else int(values.min())
    for end in ends.tolist():
        yield Slice(low, int(end), (values >= low) & (values <= end))
        low = int(end) + 1
    yield Slice(low, None if slicing.ends else int(values.max()), values >= low)


def sliced(found: Comparison, resamples: int, seed: int) -> dict[str, Any]:
    """The measures of every method in every slice, as plain values, by the name of the slicing.

    A slicing whose facts are not known has no `slices` and says why.
    """
    return {slicing.name: _sliced(found, slicing, resamples, seed) for slicing in SLICINGS}


def _sliced(found: Comparison, slicing: Slicing, resamples: int, seed: int) -> dict[str, Any]:
    told: dict[str, Any] = {"title": slicing.title, "slices": [], "not_defined": None}
    if slicing.column not in found.facts.columns or found.facts[slicing.column].null_count():
        return told | {"not_defined": f"{slicing.column} of the rows is not known"}
    if found.facts.height == 0:
        return told | {"not_defined": "there are no rows"}
    values = found.facts[slicing.column].cast(pl.Int64).to_numpy()
    parts = [_figures(found, part, resamples, seed) for part in cut(values, slicing)]
    return told | {"slices": parts}


def _figures(found: Comparison, part: Slice, resamples: int, seed: int) -> dict[str, Any]:
    labels = found.measured.labels[part.chosen]
    users = None if found.measured.users is None else found.measured.users[part.chosen]
    scores = {
        method: Scores(s.given[part.chosen], s.calibrated[part.chosen]) for method, s in found.measured.scores.items()
    }
    measured = measure_methods(labels, scores, users, resamples, seed)
    reasons = not_defined(measured)
    return {
        "slice": part.name,
        "low": part.low,
        "high": part.high,
        "n": int(labels.size),
        "users": measured.n_users,
        "users_with_both": measured.users_with_both,
        "share_liked": float(labels.mean()) if labels.size else None,
        "methods": {method: figures(measured, method, SLICED) for method in scores},
        "not_defined": {key: why for key, why in reasons.items() if key.removesuffix("_se") in SLICED},
    }
