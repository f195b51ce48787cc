"""The expert `factorisation` for any history: a user who was never seen, and items that were not.

It is the expert of the report: the same fit and the same curve from its opinion to P(yes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import Classifier, logistic_regression
from rallrec_pipeline.baselines.expectation import Expectation
from rallrec_pipeline.baselines.expert_features import Describer
from rallrec_pipeline.baselines.factorisation import Codes, Floats
from rallrec_pipeline.baselines.rating_log import RatingLog


@dataclass(frozen=True)
class FoldedExpert:
    """A fit, and the curve from its opinions to P(yes); without a curve all have the `share` of likes."""

    fit: Expectation
    curve: Classifier | None
    share: float

    @classmethod
    def of(cls, log: RatingLog, like_above: float, seed: int, most: int) -> FoldedExpert:
        """Fit as the experts are: the curve on at most `most` training rows, out of time."""
        describer = Describer(log, np.zeros((0, 0), np.float32), like_above, seed)
        folds = log.folds(seed, most)
        made = [describer.features("factorisation", fold.seen, log.rows[fold.rows])["factorisation"] for fold in folds]
        labels = log.labels[np.concatenate([fold.rows for fold in folds])]
        share = (int(labels.sum()) + 1) / (len(labels) + 2)
        curve = None
        if np.unique(labels).size == 2:
            curve = logistic_regression()
            curve.fit(np.concatenate(made)[:, None], labels)
        return cls(Expectation.of(log, like_above, seed), curve, share)

    def p_yes(self, codes: Codes, history: Codes, ratings: Floats, targets: Codes) -> NDArray[np.float64]:
        """P(yes) (n,) of `targets` by the whole history; arguments as of `Expectation.of_one_user`."""
        lengths = np.full(len(targets), len(history), np.int32)
        opinions = self.fit.of_one_user(codes, history, ratings, targets, lengths)
        if self.curve is None:
            return np.full(len(targets), self.share)
        return np.asarray(self.curve.predict_proba(opinions[:, None])[:, 1], np.float64)
