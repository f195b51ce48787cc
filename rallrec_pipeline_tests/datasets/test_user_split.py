"""Sources with times whose protocol splits users: the last rating is the target, in the order of time."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.order import in_user_order
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline_tests.datasets.worlds import cores, frame, in_global_order, ratings, with_ratings

STARS = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
BY_USER = ProtocolSpec(split="user", min_history=1)
PAIR = ["user_id", "item_id"]


@settings(max_examples=50)
@given(cores(), st.integers(0, 5))
def test_the_target_is_the_last_in_time_and_the_history_all_before(core: pl.DataFrame, seed: int) -> None:
    ordered = in_protocol_order(core, BY_USER, seed)
    samples = make_samples(ordered, BY_USER, STARS, seed)
    assert sorted(ordered.drop("timestamp").rows()) == sorted(core.drop("timestamp").rows())
    assert ordered["timestamp"].null_count() == ordered.height and ordered.schema == core.schema
    timed = ordered.drop("timestamp").join(core, on=PAIR, maintain_order="left")
    for user, item, length in samples.select(*PAIR, "history_length").iter_rows():
        mine = timed.filter(pl.col("user_id") == user)
        assert mine["timestamp"].is_sorted() and mine["item_id"][-1] == item and length == mine.height - 1
    users = core["user_id"].value_counts().filter(pl.col("count") > 1)
    assert sorted(samples["user_id"]) == sorted(users["user_id"])


@settings(max_examples=50)
@given(ratings(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: pl.DataFrame, seed: int, random: object) -> None:
    shuffled = rows.rows()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert in_user_order(rows, seed).equals(in_user_order(frame(shuffled), seed))


def test_ratings_of_one_moment_are_drawn_and_others_are_not() -> None:
    rows = frame([(str(user), str(item), 3.0, item // 4) for user in range(9) for item in range(8)])
    orders = [in_user_order(rows, seed) for seed in (1, 2)]
    assert not orders[0].equals(orders[1])
    for order in orders:
        halves = [item // 4 for item in order["item_id"].cast(pl.Int64)]
        assert halves == [0, 0, 0, 0, 1, 1, 1, 1] * 9


@settings(max_examples=50)
@given(cores(users=8), st.integers(1, 5))
def test_nothing_fitted_or_counted_knows_a_held_out_target(core: pl.DataFrame, other: int) -> None:
    ordered = in_protocol_order(core, BY_USER, 3)
    samples = make_samples(ordered, BY_USER, STARS, 3)
    held_out = samples.filter(pl.col("split") != "train").select(PAIR)
    training = training_interactions(ordered, samples)
    assert training.equals(ordered.join(held_out, on=PAIR, how="anti", maintain_order="left"))
    changed = with_ratings(ordered, held_out, float(other))
    assert rating_statistics(changed, samples).equals(rating_statistics(ordered, samples))


def test_in_global_order_a_later_user_does_not_matter_to_the_order_of_an_earlier_one() -> None:
    rows = frame([("1", "1", 3.0, 9), ("1", "2", 3.0, 5), ("2", "1", 3.0, 1)])
    assert in_global_order(rows).select(PAIR).rows() == [("2", "1"), ("1", "2"), ("1", "1")]
    assert in_user_order(rows, 0).select(PAIR).rows() == [("1", "2"), ("1", "1"), ("2", "1")]
