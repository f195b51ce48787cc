"""The cascade: a cheap expert answers, and a dear model is asked only where that pays.

Which rows come first, and how many are asked, is chosen on validation rows. The order may look at what is known before
the dear model is asked: the expert's answer, and how much was seen of item and user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError
from rallrec_pipeline.reasoning.folds import out_of_fold
from rallrec_pipeline.reasoning.opinions import Floats, Labels, log_loss, log_odds, row_losses

SHARES: Floats = np.linspace(0, 1, 21)
"""Shares of the rows asked, of which one is chosen."""
KNEE = 0.9
"""The knee is the least share that keeps so much of the largest gain in log loss."""
LEAST_ROWS = 20
"""Validation rows that a gain is fitted on, at least."""
_RIDGE = 10.0
DOUBT, COLD = "doubt", "cold items"
"""Orders by what is known before; a third one is fitted."""


@dataclass(frozen=True)
class KnownBefore:
    """What is known of rows before the dear model is asked, each (n,)."""

    expert: Floats
    """P(yes) of the cheap expert."""
    item_ratings: NDArray[np.int64]
    """Training ratings of the item."""
    history: NDArray[np.int64]
    """Length of the user's history."""
    users: NDArray[np.int64]
    """Whose row it is: a fit is judged on users that it has not seen."""

    def at(self, rows: NDArray[np.bool_]) -> KnownBefore:
        """The same of some rows."""
        return KnownBefore(self.expert[rows], self.item_ratings[rows], self.history[rows], self.users[rows])

    @property
    def features(self) -> Floats:
        """Shape (n, 5)."""
        doubt = 1 - 2 * np.abs(self.expert - 0.5)
        cold = 1 / (1.0 + self.item_ratings)
        return np.column_stack(
            [doubt, log_odds(self.expert), cold, np.log1p(self.item_ratings), np.log1p(self.history)]
        )


@dataclass(frozen=True)
class Order:
    """How soon rows are asked: those with the highest `values` (n,) first."""

    name: str
    values: Floats


@dataclass(frozen=True)
class Cascade:
    """What was chosen on validation rows: an order by name, the share of rows asked and the knee."""

    order: str
    share: float
    knee: float
    losses: Mapping[str, Floats]
    """Log loss on validation rows at each of SHARES, by order."""


def orders(known: KnownBefore, valid: NDArray[np.bool_], gain: Floats) -> list[Order]:
    """Orders of all rows (n,): by the expert's doubt, by how cold the item is, and by a fitted gain.

    `gain` (n,) is what the dear model would save in log loss; only `valid` rows are looked at. Their own fitted values
    come from folds that leave them out, so that an order by a chance gain does not look good.
    """
    features = known.features
    found = [Order(DOUBT, _doubt(features)), Order(COLD, _cold(features))]
    if valid.sum() >= LEAST_ROWS and np.unique(known.users[valid]).size > 1:
        found.append(Order("fitted gain", _fitted_gain(features, valid, gain, known.users)))
    return found


@dataclass(frozen=True)
class Asking:
    """Which rows to come are asked: those whose value by `order` is at `least` that of an asked validation row."""

    order: str
    share: float
    least: float
    value: Callable[[Floats], Floats]

    @classmethod
    def of(cls, known: KnownBefore, expert: Floats, dear: Floats, labels: Labels) -> Asking:
        """As `choose_cascade` chooses on these validation rows, each (n,)."""
        every, gain = np.ones(expert.size, dtype=bool), row_losses(labels, expert) - row_losses(labels, dear)
        candidates = orders(known, every, gain)
        chosen = choose_cascade(candidates, expert, dear, labels)
        values = next(order.values for order in candidates if order.name == chosen.order)
        first = asked_first(values, chosen.share)
        least = float(values[first].min()) if first.any() else float("inf")
        by_features: dict[str, Callable[[Floats], Floats]] = {DOUBT: _doubt, COLD: _cold}
        value = by_features.get(chosen.order) or _fit_ridge(known.features, gain)
        return cls(chosen.order, chosen.share, least, value)

    def asks(self, rows: KnownBefore) -> NDArray[np.bool_]:
        """Of each row whether the dear model is asked, (n,)."""
        return np.asarray(self.value(rows.features) >= self.least)


def asked_first(order: Floats, share: float) -> NDArray[np.bool_]:
    """The rows (n,) that are asked when `share` of them may be; of equal ones the first."""
    asked = np.zeros(order.size, dtype=bool)
    asked[np.argsort(-order, kind="stable")[: round(share * order.size)]] = True
    return asked


def choose_cascade(candidates: list[Order], expert: Floats, dear: Floats, labels: Labels, most: float = 1.0) -> Cascade:
    """Order, share and knee by log loss on these (validation) rows, each (n,); no share above `most` is taken.

    The order with the least mean loss over these shares is taken, then its best share. Raises DataError without rows.
    """
    if labels.size == 0:
        raise DataError("no validation rows to choose a cascade on: raise prompts.validation_samples")
    allowed = np.flatnonzero(most + 1e-9 >= SHARES)
    losses = {order.name: _losses(order.values, expert, dear, labels) for order in candidates}
    name = min(losses, key=lambda key: float(losses[key][allowed].mean()))
    loss = losses[name][allowed]
    best = int(np.argmin(loss))
    gain = loss[0] - loss
    enough = np.flatnonzero(gain >= KNEE * gain[best] - 1e-12)
    return Cascade(name, float(SHARES[best]), float(SHARES[enough[0]]), losses)


def rows_asked(order: Floats, valid: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """The rows (n,) that are asked: of validation rows, and of all others, those above the threshold of a share.

    The threshold is the least value asked among validation rows. Of the others never more than `share` are asked, so
    that a budget is kept.
    """
    asked = np.zeros(order.size, dtype=bool)
    first = asked_first(order[valid], share)
    asked[np.flatnonzero(valid)[first]] = True
    if first.any():
        least, others = order[valid][first].min(), np.flatnonzero(~valid)
        asked[others[asked_first(order[others], share) & (order[others] >= least)]] = True
    return asked


def _doubt(features: Floats) -> Floats:
    return features[:, 0]


def _cold(features: Floats) -> Floats:
    return np.asarray(features[:, 2] + 1e-3 * features[:, 0])


def _losses(order: Floats, expert: Floats, dear: Floats, labels: Labels) -> Floats:
    return np.array([log_loss(labels, np.where(asked_first(order, share), dear, expert)) for share in SHARES])


def _fitted_gain(features: Floats, valid: NDArray[np.bool_], gain: Floats, users: NDArray[np.int64]) -> Floats:
    """Gain (n,) by ridge regression on validation rows; their own values come from fits without their user."""
    values = _ridge(features[valid], gain[valid], features)
    values[valid] = out_of_fold(_ridge, features[valid], gain[valid], users[valid])
    return values


def _ridge(features: Floats, targets: Floats, asked: Floats) -> Floats:
    return _fit_ridge(features, targets)(asked)


def _fit_ridge(features: Floats, targets: Floats) -> Callable[[Floats], Floats]:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), Ridge(_RIDGE)).fit(features, targets)
    return lambda asked: np.asarray(model.predict(asked), dtype=np.float64)
