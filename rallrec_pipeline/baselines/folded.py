"""The expert `factorisation` for any history: a user who was never seen, and items that were not.

It is the expert of the report: the same fit and the same curve from its opinion to P(yes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import Classifier, logistic_regression
from rallrec_pipeline.baselines.expert_features import Describer
from rallrec_pipeline.baselines.factorisation import Codes, Factorisation, Floats, Opinion, fit_factorisation
from rallrec_pipeline.baselines.ragged import Runs
from rallrec_pipeline.baselines.rating_log import RatingLog


@dataclass(frozen=True)
class FoldIn:
    """A factorisation of the whole training split, for one history at a time; `one_sided` as of `opinions`."""

    model: Factorisation
    one_sided: bool

    @classmethod
    def fit(cls, log: RatingLog, like_above: float, seed: int) -> FoldIn:
        """Fit on the whole training split, as the experts of validation and test rows are."""
        judged = log.whole_training().judged
        return cls(fit_factorisation(judged, len(log.sequences.item_ids), seed, like_above), log.is_sampled)

    def opinions(self, codes: Codes, history: Codes, ratings: Floats, targets: Codes, lengths: Codes) -> Opinion:
        """What one user would give `targets` (n,), each by the first `lengths` (n,) lines of the history.

        `codes` (m,) are places in the core of the items that `history` (h,) and `targets` number; -1 is an item without
        bias and factors. `ratings` (h,) are those of the history.
        """
        known = codes >= 0
        biases = np.where(known, self.model.biases[codes], np.float32(0))
        factors = np.where(known[:, None], self.model.factors[codes], np.float32(0))
        local = Factorisation(self.model.mean, biases, factors)
        runs = Runs(np.zeros(len(targets), np.int64), lengths.astype(np.int64))
        return local.opinions(history, ratings, runs, targets, self.one_sided)


@dataclass(frozen=True)
class FoldedExpert:
    """A fit, and the curve from its opinions to P(yes); without a curve all have the `share` of likes."""

    fit: FoldIn
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
        return cls(FoldIn.fit(log, like_above, seed), curve, share)

    def p_yes(self, codes: Codes, history: Codes, ratings: Floats, targets: Codes) -> NDArray[np.float64]:
        """P(yes) (n,) of `targets` by the whole history; arguments as of `FoldIn.opinions`."""
        lengths = np.full(len(targets), len(history), np.int32)
        opinions = self.fit.opinions(codes, history, ratings, targets, lengths).rating
        if self.curve is None:
            return np.full(len(targets), self.share)
        return np.asarray(self.curve.predict_proba(opinions[:, None])[:, 1], np.float64)
