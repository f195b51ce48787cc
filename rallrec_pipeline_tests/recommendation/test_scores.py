"""Scores of the whole catalogue are those that the experts give row by row."""

from __future__ import annotations

import numpy as np
import pytest

from rallrec_pipeline.baselines.experts import predict_experts
from rallrec_pipeline.baselines.graph_score import graph_features
from rallrec_pipeline.baselines.item_knn import co_rating
from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.recommendation import scores
from rallrec_pipeline.recommendation.today import Visits
from rallrec_pipeline.settings import RecommendationSettings
from rallrec_pipeline_tests.baselines.worlds import LIKE_ABOVE, world
from rallrec_pipeline_tests.recommendation.worlds import EXPERTS, recommender


@pytest.mark.parametrize("expert", ["factorisation", "item_knn", "text_trees"])
@pytest.mark.parametrize("implicit", [False, True])
def test_candidates_have_the_probability_that_the_expert_gives_the_same_row(expert: str, implicit: bool) -> None:
    made = world(users=60, each=10, implicit=implicit)
    places = made.places("test")
    alone = predict_experts(made.evidence, places, LIKE_ABOVE, EXPERTS, seed=0)[expert].p_yes
    found = recommender(made, RecommendationSettings(expert=expert))  # type: ignore[arg-type]
    log = RatingLog.of(made.core, made.samples, made.item_ids)
    rows = log.rows[places]
    p_yes = found.expert(Visits(rows.users, rows.lengths), rows.targets[:, None])[:, 0]
    assert p_yes == pytest.approx(alone, abs=1e-5)


def test_nearest_items_lend_their_similarity() -> None:
    made = world()
    one = recommender(made)
    visits = one.ratings.visits
    n_items = len(made.item_ids)
    alike = co_rating(one.fit.seen.ratings, n_items, centred=False)(np.arange(n_items, dtype=np.int32))
    np.fill_diagonal(alike, 0)
    seen = one.ratings.seen(visits)
    assert scores.item_knn(one.fit, one.ratings)(visits) == pytest.approx(seen @ alike, abs=1e-4)


@pytest.mark.parametrize(("signed", "feature"), [(False, "graph_near"), (True, "graph_liked")])
def test_lightgcn_orders_items_as_its_features_do(signed: bool, feature: str) -> None:
    made = world()
    one = recommender(made)
    visits = one.ratings.visits[:5]
    found = scores.lightgcn(one.catalogue.collaborative, one.ratings, signed)(visits)
    log = RatingLog.of(made.core, made.samples, made.item_ids)
    items = np.arange(len(made.item_ids), dtype=np.int32)
    rows = visits.rows(np.broadcast_to(items, (5, len(items))))
    features = graph_features(log, one.catalogue.collaborative, rows)[feature].reshape(5, -1)
    for ours, theirs in zip(found, features, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(1, abs=1e-5)


def test_a_user_without_a_rating_has_scores_too() -> None:
    one = recommender(world(), users=("nobody",))
    visits = one.ratings.visits[-1:]
    assert visits.lengths[0] == 0
    for name in ("popularity", "item_knn", "lightgcn", "factorisation"):
        assert np.isfinite(one.whole(name)(visits)).all()
    best = one.best(visits, 4)
    most = np.argsort(-one.fit.counts(), kind="stable")[:10]
    assert set(best.items[0]) <= set(most) and ((best.p_yes > 0) & (best.p_yes < 1)).all()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    one = recommender(world())
    whole = one.best(one.ratings.visits, 4)
    monkeypatch.setattr("rallrec_pipeline.recommendation.today.BLOCK_CELLS", 70)
    parts = one.best(one.ratings.visits, 4)
    np.testing.assert_array_equal(whole.items, parts.items)
    assert whole.p_yes == pytest.approx(parts.p_yes, abs=1e-6)
