"""P(yes) of candidates by an expert: the fit's classifier on features of any user and item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rallrec_pipeline.baselines.classifiers import Classifier, MeanOfTrees, logistic_regression
from rallrec_pipeline.baselines.expert_features import Describer, Features, matrix
from rallrec_pipeline.baselines.experts import BY_FEATURES
from rallrec_pipeline.baselines.rating_log import Rows
from rallrec_pipeline.recommendation.fit import ExpertFit
from rallrec_pipeline.recommendation.today import Codes, Ratings, Visits

Floats = NDArray[np.float32]
Probabilities = NDArray[np.float64]


class CandidateExpert:
    """Scores items (n, c) of visits; padding (-1) has the P(yes) of the first item, and must not be looked at.

    `text` (m, d) are the title vectors of the items of `fit` and `ratings`, which have the same codes.
    """

    def __init__(
        self, fit: ExpertFit, ratings: Ratings, text: Floats, like_above: float, trees: int, seed: int
    ) -> None:
        self.fit, self.ratings = fit, ratings
        self.known = BY_FEATURES[fit.expert]
        describer = Describer(ratings, text, like_above, seed)
        self.describe: dict[str, Callable[[Rows], Features]] = {
            group: describer.fitted(group, fit.seen) for group in self.known.groups if group != "factorisation"
        }
        self.share = (float(fit.labels.sum()) + 1) / (len(fit.labels) + 2)
        self.model: Classifier | None = None
        if np.unique(fit.labels).size == 2:
            self.model = MeanOfTrees(seed, trees) if self.known.is_trees else logistic_regression()
            self.model.fit(fit.features, fit.labels)

    def __call__(self, visits: Visits, items: Codes) -> Probabilities:
        """P(yes) (n, c)."""
        if self.model is None or not items.size:
            return np.full(items.shape, self.share)
        places = np.maximum(items, 0)
        rows = visits.rows(places)
        features: dict[str, Features] = {group: describe(rows) for group, describe in self.describe.items()}
        if "factorisation" in self.known.groups:
            features["factorisation"] = self._factorisation(visits, places)
        ordered: dict[str, Features] = {group: features[group] for group in self.known.groups}
        found = self.model.predict_proba(matrix(self.known.chosen(ordered)))[:, 1]
        return found.astype(np.float64).reshape(items.shape)

    def _factorisation(self, visits: Visits, items: Codes) -> Features:
        """The features of the group, each user folded in once for all candidates."""
        model = self.fit.factorisation
        own, tastes = model.folded_in(*self.ratings.own(visits), one_sided=self.ratings.is_sampled)
        bias = model.mean + own[:, None] + model.biases[items]
        rating = bias + np.einsum("nf,ncf->nc", tastes, model.factors[items], optimize=True)
        return {
            "factorisation": rating.ravel().astype(np.float32),
            "factorisation_bias": bias.ravel().astype(np.float32),
        }
