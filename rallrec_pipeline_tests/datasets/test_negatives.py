"""Sources without times and without ratings: the split by users, sampled negatives, and what is fitted on."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.kcore import k_core
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.statistics import SHRINKAGE, rating_statistics
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import SAMPLES
from rallrec_pipeline_tests.datasets.worlds import SCHEMA

STARS, CHOICES = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3), LabelSpec(negatives=2)
BY_USER = ProtocolSpec(split="user", min_history=1, user_core=2, item_core=1)
PAIRS = st.sets(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=2, max_size=60)


def world(pairs: set[tuple[int, int]], timed: bool = False, implicit: bool = False) -> pl.DataFrame:
    """A core of these (user, item) pairs; the rating depends on the pair."""
    rows = [
        (f"u{u}", f"i{i}", 1.0 if implicit else float((u + i) % 5 + 1), u * 31 + i * 7 if timed else None)
        for u, i in sorted(pairs)
    ]
    return k_core(pl.DataFrame(rows, schema=SCHEMA, orient="row"), 2, 1)


@settings(max_examples=60)
@given(PAIRS, st.integers(0, 5))
def test_each_user_has_one_target_and_one_split(pairs: set[tuple[int, int]], seed: int) -> None:
    core = in_protocol_order(world(pairs), BY_USER, seed)
    samples = make_samples(core, BY_USER, STARS, seed)
    check_schema(samples, SAMPLES, "small")
    assert samples["user_id"].n_unique() == samples.height == core["user_id"].n_unique()
    counts = dict(core["user_id"].value_counts().iter_rows())
    for user, item, length in samples.select("user_id", "item_id", "history_length").iter_rows():
        mine = core.filter(pl.col("user_id") == user)["item_id"].to_list()
        assert length == counts[user] - 1 and mine[length] == item and item not in mine[:length]
    sizes = dict(samples["split"].value_counts().iter_rows())
    n = samples.height
    assert sizes.get("train", 0) == int(n * 0.8 + 1e-9) and sizes.get("valid", 0) == int(n * 0.1 + 1e-9)


@settings(max_examples=30)
@given(PAIRS, st.randoms())
def test_the_shuffled_order_is_that_of_the_seed_not_of_the_file(pairs: set[tuple[int, int]], random: object) -> None:
    core = world(pairs)
    mixed = core.sample(fraction=1.0, shuffle=True, seed=random.randrange(1000))  # type: ignore[attr-defined]
    assert in_protocol_order(core, BY_USER, 1).equals(in_protocol_order(mixed, BY_USER, 1))


def test_another_seed_is_another_order() -> None:
    core = world({(u, i) for u in range(1, 9) for i in range(1, 9)})
    assert not in_protocol_order(core, BY_USER, 1).equals(in_protocol_order(core, BY_USER, 2))


@settings(max_examples=60)
@given(PAIRS)
def test_without_times_nothing_is_fitted_on_a_held_out_target(pairs: set[tuple[int, int]]) -> None:
    core = in_protocol_order(world(pairs), BY_USER, 3)
    samples = make_samples(core, BY_USER, STARS, 3)
    training = training_interactions(core, samples)
    held_out = samples.filter(pl.col("split") != "train")
    assert training.join(held_out, on=["user_id", "item_id"], how="semi").is_empty()
    assert training.height == core.height - held_out.height


def test_without_times_an_item_mean_leaves_out_the_samples_own_rating() -> None:
    core = in_protocol_order(world({(u, i) for u in range(1, 11) for i in range(1, 6)}), BY_USER, 3)
    samples = make_samples(core, BY_USER, STARS, 3)
    training = training_interactions(core, samples)
    overall = training["rating"].cast(pl.Float64).mean()
    figures = rating_statistics(core, samples)
    for sample, row in zip(samples.iter_rows(named=True), figures.iter_rows(named=True), strict=True):
        others = training.filter((pl.col("item_id") == sample["item_id"]) & (pl.col("user_id") != sample["user_id"]))[
            "rating"
        ]
        assert row["item_count"] == len(others)
        assert row["item_mean"] == pytest.approx((others.sum() + SHRINKAGE * overall) / (len(others) + SHRINKAGE))


@settings(max_examples=60)
@given(PAIRS, st.booleans(), st.integers(1, 3))
def test_negatives_were_never_touched_and_follow_their_target(
    pairs: set[tuple[int, int]], timed: bool, wanted: int
) -> None:
    protocol = ProtocolSpec(min_history=1) if timed else BY_USER
    core = in_protocol_order(world(pairs, timed, implicit=True), protocol, 3)
    samples = make_samples(core, protocol, LabelSpec(negatives=wanted), 3)
    check_schema(samples, SAMPLES, "small")
    touched, items = set(core.select("user_id", "item_id").iter_rows()), set(core["item_id"])
    target: dict[str, object] = {}
    seen: set[str] = set()
    for row in samples.iter_rows(named=True):
        if row["label"] == 1:
            assert (row["user_id"], row["item_id"]) in touched
            target, seen = row, set()
        else:
            assert (row["user_id"], row["item_id"]) not in touched and row["item_id"] in items - seen
            assert all(row[name] == target[name] for name in ("user_id", "split", "timestamp", "history_length"))
            seen.add(row["item_id"])
            assert len(seen) <= wanted
    assert samples["sample_id"].to_list() == list(range(samples.height))


def test_negatives_are_found_where_there_is_room_for_them() -> None:
    core = world({(u, (u + k) % 40 + 1) for u in range(1, 30) for k in range(6)}, timed=True, implicit=True)
    samples = make_samples(core, ProtocolSpec(min_history=2), CHOICES, 3)
    assert samples["label"].mean() == pytest.approx(1 / 3)


def test_with_negatives_an_item_mean_is_the_share_of_earlier_training_samples_that_happened() -> None:
    core = world({(u, (u * k) % 20 + 1) for u in range(1, 40) for k in range(1, 8)}, timed=True, implicit=True)
    samples = make_samples(core, ProtocolSpec(min_history=2), CHOICES, 3)
    train = samples.filter(pl.col("split") == "train")
    overall = train["rating"].cast(pl.Float64).mean()
    figures = rating_statistics(core, samples)
    for place, sample in enumerate(samples.iter_rows(named=True)):
        before = train.filter((pl.col("item_id") == sample["item_id"]) & (pl.col("sample_id") < sample["sample_id"]))
        expected = (before["rating"].sum() + SHRINKAGE * overall) / (before.height + SHRINKAGE)
        assert figures["item_mean"][place] == pytest.approx(expected, abs=1e-6)
        assert figures["user_mean"][place] == pytest.approx(
            (sample["history_length"] + SHRINKAGE * overall) / (sample["history_length"] + SHRINKAGE), abs=1e-6
        )
    assert not figures.select(pl.all().is_null().any()).row(0).count(True)


def test_the_training_interactions_of_a_timed_source_with_negatives_end_at_the_last_training_target() -> None:
    core = world({(u, (u + k) % 40 + 1) for u in range(1, 30) for k in range(6)}, timed=True, implicit=True)
    samples = make_samples(core, ProtocolSpec(min_history=2), CHOICES, 3)
    last = samples.filter((pl.col("split") == "train") & (pl.col("label") == 1)).tail(1)
    found = training_interactions(core, samples).tail(1)
    assert found.select("user_id", "item_id").equals(last.select("user_id", "item_id"))
