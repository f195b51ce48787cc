"""The cascade: who is asked about, which places are dealt out anew, and what a budget allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.recommendation.candidates import NO_ITEM, Candidates
from rallrec_pipeline.recommendation.cascade import Answers, places_asked, rescored, tokens_added, within_budget
from rallrec_pipeline.recommendation.recommender import Best
from rallrec_pipeline.recommendation.today import Codes, Visits
from rallrec_pipeline.settings import RecommendationSettings

BY_P = RecommendationSettings(n=4, candidates=10, shortlist=4, order="p_yes")
ONE = Visits(np.zeros(1, np.int32), np.ones(1, np.int64))


def candidates(items: int = 10, padding: int = 0) -> Candidates:
    """One visit; the expert's P(yes) of item i is (10 - i) / 20, so the expert's order is that of the items."""
    codes = np.array([[*range(items), *[NO_ITEM] * padding]], np.int32)
    return Candidates(codes, np.ones(codes.shape, np.uint8), np.ones(codes.shape, np.float32))


def by_expert(found: Candidates) -> np.ndarray:
    return np.asarray((10 - found.items) / 20, np.float64)


def ranked(settings: RecommendationSettings, found: Candidates, answers: dict[int, float], count: int = 10) -> Best:
    def rescoring(visits: Visits, items: Codes, p_yes: np.ndarray) -> np.ndarray:
        assert np.array_equal(p_yes[items >= 0], ((10 - items) / 20)[items >= 0])
        return np.vectorize(lambda item: answers.get(item, np.nan), otypes=[np.float64])(items)

    return rescored(found, by_expert(found), ONE, settings, rescoring, count)


def test_the_best_are_dealt_out_among_themselves_and_the_others_keep_their_places() -> None:
    best = ranked(BY_P, candidates(), {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4, 9: 0.9})
    assert best.items[0].tolist() == [3, 2, 1, 0, 4, 5, 6, 7, 8, 9]
    assert best.asked[0].tolist() == [True] * 4 + [False] * 6
    assert best.p_yes[0, :5].tolist() == [0.4, 0.3, 0.2, 0.1, 0.3]  # the fifth is the expert's


def test_only_those_at_the_border_are_asked_where_the_place_among_the_first_is_in_doubt() -> None:
    border = BY_P.model_copy(update={"asked": "border"})
    assert places_asked(border).tolist() == [3, 4, 2, 5]
    best = ranked(border, candidates(), {2: 0.1, 3: 0.2, 4: 0.3, 5: 0.4}, count=4)
    assert best.items[0].tolist() == [0, 1, 5, 4] and best.asked[0].tolist() == [False, False, True, True]


def test_what_was_not_asked_keeps_its_place_among_those_that_were() -> None:
    best = ranked(BY_P, candidates(), {0: 0.1, 2: 0.3, 3: 0.4})
    assert best.items[0, :4].tolist() == [3, 1, 2, 0] and not best.asked[0, 1]


def test_the_product_with_the_score_of_the_source_decides_where_it_is_set() -> None:
    found = candidates()
    found = replace(found, place=np.where(found.items == 0, 1, 0.2).astype(np.float32))
    both = BY_P.model_copy(update={"order": "both"})
    best = ranked(both, found, {0: 0.3, 1: 0.9, 2: 0.5, 3: 0.1})
    assert best.items[0, :4].tolist() == [0, 1, 2, 3]
    only_p = rescored(found, by_expert(found), ONE, both, Answers({(0, 1, 0): 0.3, (0, 1, 1): 0.9}), 10, "p_yes")
    assert only_p.items[0, :2].tolist() == [1, 0]


@pytest.mark.parametrize(("items", "padding", "shortlist"), [(2, 8, 4), (0, 3, 4), (3, 0, 20)])
def test_a_user_with_few_candidates_is_padded(items: int, padding: int, shortlist: int) -> None:
    settings = BY_P.model_copy(update={"shortlist": shortlist})
    best = ranked(settings, candidates(items, padding), dict.fromkeys(range(-1, 10), 0.5), count=6)
    assert best.items[0].tolist() == [*range(items), *[NO_ITEM] * (6 - items)]
    assert best.asked[0].sum() == items


@given(st.integers(1, 12), st.integers(1, 10), st.sampled_from(["best", "border"]))
def test_smaller_shortlists_are_the_beginning_of_larger_ones(shortlist: int, n: int, asked: str) -> None:
    """So what was answered about one serves any smaller one."""
    whole = BY_P.model_copy(update={"n": n, "asked": asked, "shortlist": 12})
    some = whole.model_copy(update={"shortlist": shortlist})
    assert places_asked(some).tolist() == places_asked(whole)[:shortlist].tolist()
    assert len(set(places_asked(some))) == min(shortlist, 10) and (places_asked(some) >= 0).all()


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=10, max_size=10), st.sampled_from(["best", "border"]))
def test_nothing_is_lost_or_doubled(answers: list[float | None], asked: str) -> None:
    settings = BY_P.model_copy(update={"asked": asked, "shortlist": 6})
    known = {item: p for item, p in enumerate(answers) if p is not None}
    best = ranked(settings, candidates(), known)
    assert sorted(best.items[0]) == list(range(10))
    for place, (item, is_asked, p) in enumerate(zip(best.items[0], best.asked[0], best.p_yes[0], strict=True)):
        assert p == (known[item] if is_asked else (10 - item) / 20) and (is_asked or item == place)
    dealt = best.p_yes[0][best.asked[0]]
    assert (np.diff(dealt) <= 0).all()


def test_a_beginning_that_prompts_share_is_counted_once_and_the_budget_is_each_users_own() -> None:
    users, tokens = [7, 7, 7, 8, 8], [[1, 2, 3, 4], [1, 2, 9], [1, 2, 3], [1, 2, 3, 4], [5, 6]]
    added = tokens_added(users, tokens)
    assert added.tolist() == [4, 1, 0, 4, 2]
    assert within_budget(users, added, 4).tolist() == [True, False, False, True, False]
    assert within_budget(users, added, 5).tolist() == [True, True, True, True, False]
    assert within_budget(users, added, 3).tolist() == [False] * 5
