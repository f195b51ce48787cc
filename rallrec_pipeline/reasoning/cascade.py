"""The cascade: a cheap expert answers, and a dear model is asked only where that pays.

Which rows come first, and how many are asked, is chosen on validation rows. The order may look at what is known before
the dear model is asked: the expert's answer, and how much was seen of item and user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.reasoning.opinions import Floats, Labels, log_loss, log_odds

SHARES: Floats = np.linspace(0, 1, 21)
"""Shares of the rows asked, of which one is chosen."""
KNEE = 0.9
"""The knee is the least share that keeps so much of the largest gain in log loss."""
_FOLDS = 5
_RIDGE = 10.0


@dataclass(frozen=True)
class KnownBefore:
    """What is known of rows before the dear model is asked, each (n,)."""

    expert: Floats
    """P(yes) of the cheap expert."""
    item_ratings: NDArray[np.int64]
    """Training ratings of the item."""
    history: NDArray[np.int64]
    """Length of the user's history."""

    def at(self, rows: NDArray[np.bool_]) -> KnownBefore:
        """The same of some rows."""
        return KnownBefore(self.expert[rows], self.item_ratings[rows], self.history[rows])

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
    return [
        Order("doubt", features[:, 0]),
        Order("cold items", features[:, 2] + 1e-3 * features[:, 0]),
        Order("fitted gain", _fitted_gain(features, valid, gain)),
    ]


def asked_first(order: Floats, share: float) -> NDArray[np.bool_]:
    """The rows (n,) that are asked when `share` of them may be; of equal ones the first."""
    asked = np.zeros(order.size, dtype=bool)
    asked[np.argsort(-order, kind="stable")[: round(share * order.size)]] = True
    return asked


def choose_cascade(candidates: list[Order], expert: Floats, dear: Floats, labels: Labels, most: float = 1.0) -> Cascade:
    """Order, share and knee by log loss on these (validation) rows, each (n,); no share above `most` is taken.

    The order with the least mean loss over all shares is taken, then its best share.
    """
    losses = {order.name: _losses(order.values, expert, dear, labels) for order in candidates}
    name = min(losses, key=lambda key: float(losses[key].mean()))
    allowed = np.flatnonzero(most + 1e-9 >= SHARES)
    loss = losses[name][allowed]
    best = int(np.argmin(loss))
    gain = loss[0] - loss
    enough = np.flatnonzero(gain >= KNEE * gain[best] - 1e-12)
    return Cascade(name, float(SHARES[best]), float(SHARES[enough[0]]), losses)


def threshold(order: Floats, share: float) -> float:
    """The least value (n,) that is still asked at a share: what new rows are held against; infinite for none."""
    asked = asked_first(order, share)
    return float(order[asked].min()) if asked.any() else float("inf")


def _losses(order: Floats, expert: Floats, dear: Floats, labels: Labels) -> Floats:
    return np.array([log_loss(labels, np.where(asked_first(order, share), dear, expert)) for share in SHARES])


def _fitted_gain(features: Floats, valid: NDArray[np.bool_], gain: Floats) -> Floats:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if valid.sum() < 2 * _FOLDS:
        return np.zeros(valid.size)
    model = make_pipeline(StandardScaler(), Ridge(_RIDGE))
    fitted = np.asarray(model.fit(features[valid], gain[valid]).predict(features), dtype=np.float64)
    fitted[valid] = cross_val_predict(model, features[valid], gain[valid], cv=KFold(_FOLDS))
    return fitted
