"""A recommender of a made-up world, as the stage builds one from its tables."""

from __future__ import annotations

import numpy as np

from rallrec_pipeline.recommendation.cold import with_cold_items
from rallrec_pipeline.recommendation.fit import fit_expert
from rallrec_pipeline.recommendation.recommender import Catalogue, Recommender
from rallrec_pipeline.recommendation.today import Ratings
from rallrec_pipeline.retrieval.index import build_index
from rallrec_pipeline.settings import ExpertSettings, RecommendationSettings
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, World

EXPERTS = ExpertSettings(trees=2)
SMALL = RecommendationSettings(n=4, candidates=10, shortlist=4)


def recommender(made: World, settings: RecommendationSettings = SMALL, users: tuple[str, ...] = ()) -> Recommender:
    """Of all that users of `made` have rated; `users` are further ones without a rating."""
    fit = fit_expert(settings.expert, made.core, made.samples, made.item_ids, made.vectors, LIKE_ABOVE, EXPERTS, seed=0)
    catalogue = Catalogue(made.item_ids, made.vectors, made.vectors, made.vectors[:, :4], fit.counts() > 0)
    return Recommender(
        catalogue,
        with_cold_items(fit, made.vectors),
        fit.factorisation,
        Ratings.of(made.core, made.item_ids, users, fit.is_sampled),
        build_index(made.vectors),
        settings,
        LIKE_ABOVE,
        EXPERTS.trees,
        seed=0,
    )


def rated(made: World, user: str) -> set[str]:
    """Items that a user has rated."""
    return set(made.core.filter(made.core["user_id"] == user)["item_id"])


def changed(vectors: np.ndarray, item: int) -> np.ndarray:
    """The vectors with another one of one item."""
    found = vectors.copy()
    found[item] += 0.01
    return found
