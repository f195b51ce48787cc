"""k-core: the fixpoint, whatever the order of the rows."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.datasets.kcore import core_of, k_core, rules_before_core
from rallrec_pipeline.datasets.protocol_spec import CoreSpec, ProtocolSpec
from rallrec_pipeline_tests.datasets.worlds import frame, in_global_order, ratings

CORE = st.integers(1, 4)
CAP = st.none() | st.integers(2, 6)
Row = tuple[str, str, float, int]


def naive(rows: list[Row], user_core: int, item_core: int, user_cap: int | None, item_cap: int | None) -> set[Row]:
    """Round by round, users first, counting anew, as the published code does."""
    kept = set(rows)
    while True:
        users = Counter(row[0] for row in kept)
        good = {row for row in kept if user_core <= users[row[0]] <= (user_cap or len(rows))}
        items = Counter(row[1] for row in good)
        good = {row for row in good if item_core <= items[row[1]] <= (item_cap or len(rows))}
        if good == kept:
            return kept
        kept = good


@given(ratings(), CORE, CORE, CAP, CAP)
def test_equals_the_naive_loop(
    rows: pl.DataFrame, user_core: int, item_core: int, user_cap: int | None, item_cap: int | None
) -> None:
    core = k_core(rows, user_core, item_core, user_cap, item_cap)
    assert set(core.rows()) == naive(rows.rows(), user_core, item_core, user_cap, item_cap)
    assert core.schema == rows.schema


@given(ratings(), CORE, CORE, st.none() | st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(
    rows: pl.DataFrame, user_core: int, item_core: int, limit: int | None, random: object
) -> None:
    shuffled = rows.rows()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    core = k_core(rows, user_core, item_core, item_limit=limit)
    assert core.equals(k_core(frame(shuffled), user_core, item_core, item_limit=limit))
    assert core.equals(in_global_order(core))


@given(ratings(), CORE, CORE)
def test_is_a_fixpoint_and_no_row_outside_could_stay(rows: pl.DataFrame, user_core: int, item_core: int) -> None:
    core = k_core(rows, user_core, item_core)
    assert k_core(core, user_core, item_core).equals(core)
    assert core.is_empty() or core["user_id"].value_counts()["count"].min() >= user_core  # type: ignore[operator]
    assert core.is_empty() or core["item_id"].value_counts()["count"].min() >= item_core  # type: ignore[operator]
    weaker = k_core(rows, max(1, user_core - 1), item_core)
    assert set(core.rows()) <= set(weaker.rows())


@given(ratings(), st.integers(1, 6))
def test_the_item_limit_keeps_the_most_rated(rows: pl.DataFrame, limit: int) -> None:
    counts = Counter(rows["item_id"].to_list())
    best = sorted(counts, key=lambda item: (-counts[item], len(item), item))[:limit]
    assert set(k_core(rows, 1, 1, item_limit=limit)["item_id"]) == set(best)
    assert k_core(rows, 1, 1, item_limit=10**30).equals(k_core(rows, 1, 1))


def test_one_removal_can_bring_down_the_rest() -> None:
    chain = frame([(str(u), str(i), 3.0, 0) for u in range(5) for i in (u, u + 1)])
    assert k_core(chain, 2, 2).is_empty()  # items 0 and 5 have one rating, then users 0 and 4, and so on
    assert k_core(chain, 1, 1).height == 10


def test_users_leave_before_items_are_counted_so_that_a_cap_hits_as_published() -> None:
    """`hit` has three raters, more than the cap, until the two users with a single rating are gone."""
    pairs = ["1 hit", "1 b", "1 c", "2 hit", "3 hit", "4 b", "4 c"]
    rows = frame([(*pair.split(), 4.0, time) for time, pair in enumerate(pairs)])  # type: ignore[misc]
    core = k_core(rows, user_core=2, item_core=1, item_cap=2)
    assert set(core["item_id"]) == {"hit", "b", "c"}


def test_dropped_ratings_are_compared_as_they_are_stored() -> None:
    rows = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": [0.1, 4.0], "timestamp": [1, 2]})
    rows = rows.with_columns(pl.col("rating").cast(pl.Float32))
    items = pl.DataFrame({"item_id": ["x", "y"]})
    protocol = ProtocolSpec(user_core=1, item_core=1, min_history=1, drop_ratings=(0.1,))
    assert core_of(rows, items, protocol)["user_id"].to_list() == ["b"]


@given(ratings(), CORE, CORE, CAP, CAP, CORE)
def test_a_selection_picks_items_and_then_all_their_ratings_count(
    rows: pl.DataFrame, user_core: int, item_core: int, user_cap: int | None, item_cap: int | None, least: int
) -> None:
    user_cap, item_cap = (cap and max(cap, core) for cap, core in ((user_cap, user_core), (item_cap, item_core)))
    selection = CoreSpec(user_core=user_core, item_core=item_core, user_cap=user_cap, item_cap=item_cap)
    protocol = ProtocolSpec(selection=selection, drop_ratings=(1,), user_core=least, item_core=1)
    chosen = {row[1] for row in naive(rows.rows(), user_core, item_core, user_cap, item_cap)}
    left = [row for row in rows.rows() if row[1] in chosen and row[2] != 1]
    core = core_of(rows, rows.select("item_id").unique(), protocol)
    assert set(core.rows()) == naive(left, least, 1, None, None)


def test_each_rule_before_the_core_says_what_it_leaves_out() -> None:
    rows = frame([(user, item, float(rating), 0) for user, item, rating in zip("aabbc", "xyxyz", "13455", strict=True)])
    items = pl.DataFrame({"item_id": ["x", "y", "z"], "title": ["X", "", "Z"]})
    protocol = ProtocolSpec(
        selection=CoreSpec(user_core=2, item_core=2), drop_ratings=(1,), require=("title",), user_core=1, item_core=1
    )
    found = [(rule.words, rule.ratings.collect().height) for rule in rules_before_core(rows, items, protocol)]
    assert found == [
        ("left out: items outside the selection (users with 2 or more ratings, items with 2 or more)", 4),
        ("left out: ratings of 1", 3),
        ("left out: items without title", 1),
    ]
    assert core_of(rows, items, protocol).select("user_id", "item_id").rows() == [("b", "x")]


@pytest.mark.parametrize("of", ["user", "item"])
def test_a_cap_below_the_core_is_refused(of: str) -> None:
    with pytest.raises(ValueError, match=f"{of}_cap = 4 lies below {of}_core = 5: nothing would be left"):
        ProtocolSpec.model_validate({f"{of}_cap": 4})
