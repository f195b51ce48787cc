"""Leave-last-out: each user's last sample is for test, the one before it for validation, the others for training."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.baselines.rating_log import RatingLog
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.order import id_order
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline_tests.datasets.worlds import cores, make_spec, with_ratings

STARS = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
PAIR = ["user_id", "item_id"]


def protocol(least: int) -> ProtocolSpec:
    return ProtocolSpec(split="last", min_history=least)


@settings(max_examples=50)
@given(cores(), st.integers(0, 4), st.integers(0, 5))
def test_the_last_are_held_out_and_the_samples_equal_a_plain_loop(core: pl.DataFrame, least: int, seed: int) -> None:
    ordered = in_protocol_order(core, protocol(least), seed)
    samples = make_samples(ordered, protocol(least), STARS, seed)
    timed = ordered.drop("timestamp").join(core, on=PAIR, maintain_order="left")
    expected = []
    for user in ordered["user_id"].unique(maintain_order=True):
        mine = timed.filter(pl.col("user_id") == user)
        assert mine["timestamp"].is_sorted()
        targets = list(enumerate(mine["item_id"]))[least:]
        for place, item in targets:
            later = mine.height - 1 - place
            expected.append((user, item, ("test", "valid")[later] if later < 2 else "train", place))
    assert samples.select(*PAIR, "split", "history_length").rows() == expected
    assert samples["timestamp"].null_count() == samples.height, "two users' ratings have no order"


@settings(max_examples=50)
@given(cores(users=8), st.integers(1, 5))
def test_nothing_fitted_or_counted_knows_a_held_out_target(core: pl.DataFrame, other: int) -> None:
    ordered = in_protocol_order(core, protocol(1), 3)
    samples = make_samples(ordered, protocol(1), STARS, 3)
    held_out = samples.filter(pl.col("split") != "train").select(PAIR)
    training = training_interactions(ordered, samples)
    assert training.equals(ordered.join(held_out, on=PAIR, how="anti", maintain_order="left"))
    items = core.select("item_id").unique().sort(*id_order("item_id"))["item_id"].to_list()
    log = RatingLog.of(ordered, samples, items)
    assert log.in_time == core.is_empty() and int(log.fitted.sum()) == training.height
    changed = with_ratings(ordered, held_out, float(other))
    shown = ["item_mean", "item_count", "global_mean"]
    # A user's validation target is in the history of the test target: what the user has rated so far is known.
    not_test = samples["split"] != "test"
    before, after = rating_statistics(ordered, samples), rating_statistics(changed, samples)
    assert after.select(shown).equals(before.select(shown))
    assert after.filter(not_test).equals(before.filter(not_test))


def test_negatives_stay_with_their_target() -> None:
    rows = [(f"u{user}", f"i{(user + place) % 12}", 1.0, place) for user in range(6) for place in range(5)]
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    core = pl.DataFrame(rows, schema=schema, orient="row")
    label = LabelSpec(negatives=2)
    samples = make_samples(in_protocol_order(core, protocol(2), 0), protocol(2), label, 0)
    counts = samples.group_by("user_id", "split").len().sort("user_id", "split")
    assert counts["split"].to_list() == ["test", "train", "valid"] * 6 and set(counts["len"]) == {3}


def test_without_times_there_is_no_last() -> None:
    files = {"file": "s.inter", "columns": {"rating": "rating"}}
    with pytest.raises(ValueError, match='without a column `timestamp` it must be "user"'):
        make_spec(interactions=files, protocol={"split": "last"})
    assert make_spec(protocol={"split": "last"}).protocol.orders_users_alone
