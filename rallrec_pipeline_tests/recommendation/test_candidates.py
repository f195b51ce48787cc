"""Who proposes what: shares, newcomers, and nothing that was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.recommendation.candidates import SOURCES, propose, sources_of
from rallrec_pipeline.settings import RecommendationSettings

EXPERT, POPULAR = 1 << SOURCES.index("expert"), 1 << SOURCES.index("popularity")


def scores(seed: int, n: int, m: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {name: rng.normal(size=(n, m)).astype(np.float32) for name in ("expert", "popularity", "new")}
    found["new"][:, : m // 2] = -np.inf
    near = np.argsort(rng.normal(size=(n, m)), axis=1)
    return found, near, rng.random((n, m)) < rng.random()


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 5), m=st.integers(1, 30), candidates=st.integers(1, 40))
def test_no_candidate_was_seen_and_none_comes_twice(seed: int, n: int, m: int, candidates: int) -> None:
    found, near, seen = scores(seed, n, m)
    asked = RecommendationSettings(n=1, candidates=candidates)
    made = propose(found, near, seen, (~seen).sum(axis=1), asked)
    for row, items in enumerate(made.items):
        there = items[items >= 0]
        assert len(set(there)) == len(there) and not seen[row, there].any()
        assert len(there) >= min(candidates, int((~seen[row]).sum()))
        assert ((made.place[row] >= 0) & (made.place[row] <= 1)).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 5), candidates=st.integers(1, 20), high=st.sampled_from([1, 1e9]))
def test_candidates_of_a_user_do_not_depend_on_who_else_asks(seed: int, n: int, candidates: int, high: float) -> None:
    found, near, seen = scores(seed, n, 30)
    found["expert"][-1] *= high
    asked, lengths = RecommendationSettings(n=1, candidates=candidates), (~seen).sum(axis=1)
    together = propose(found, near, seen, lengths, asked)
    for row in range(n):
        one = slice(row, row + 1)
        alone = propose({k: v[one] for k, v in found.items()}, near[one], seen[one], lengths[one], asked)
        for name, values in vars(alone).items():
            np.testing.assert_array_equal(values[0], getattr(together, name)[row])


def test_each_source_proposes_its_share_and_the_expert_fills_up() -> None:
    found, near, _ = scores(1, 1, 100)
    seen = np.zeros((1, 100), np.bool_)
    asked = RecommendationSettings(
        n=1, candidates=20, index_share=0.2, expert_share=0.5, popularity_share=0.3, new_share=0
    )
    made = propose(found, near, seen, np.array([50]), asked)
    by_source = {source: set(made.items[0][made.proposed[0] >> bit & 1 == 1]) for bit, source in enumerate(SOURCES)}
    assert by_source["index"] == set(near[0, :4])
    assert by_source["expert"] == set(np.argsort(-found["expert"][0])[:10])
    assert by_source["popularity"] == set(np.argsort(-found["popularity"][0])[:6])
    assert not by_source["new"] and made.items.shape == (1, 20)
    filled = made.items[0][made.proposed[0] == 0]
    assert set(filled) <= set(np.argsort(-found["expert"][0])[10:20])


def test_with_a_short_history_popularity_takes_the_place_of_the_index() -> None:
    found, near, _ = scores(2, 2, 60)
    asked = RecommendationSettings(n=1, candidates=20, newcomer=3)
    made = propose(found, near, np.zeros((2, 60), np.bool_), np.array([2, 3]), asked)
    popular = (made.proposed & POPULAR > 0).sum(axis=1)
    assert list(popular) == [8, 4] and not (made.proposed[0] & 1).any() and (made.proposed[1] & 1).any()


@pytest.mark.parametrize(("bits", "names"), [(0, ["expert"]), (1, ["index"]), (6, ["expert", "popularity"])])
def test_sources_have_names(bits: int, names: list[str]) -> None:
    assert sources_of(bits) == names


@pytest.mark.parametrize(
    "wrong",
    [
        {"index_share": 0.9},
        {"n": 300},
        {"method": "rallrec", "n": 30},
        {"method": "rallrec", "order": "source"},
        {"index_share": float("nan")},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"share|must not be larger|would be asked for nothing|finite"):
        RecommendationSettings(**wrong)
