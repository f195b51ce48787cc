"""Samples and training interactions: nothing of the future anywhere."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import (
    _split,
    all_but_last,
    make_samples,
    strictly_earlier,
    training_interactions,
)
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.lake.parquet import check_schema
from rallrec_pipeline.lake.tables import SAMPLES
from rallrec_pipeline_tests.datasets.worlds import cores, frame, in_global_order

LABEL = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
SPLITS = ["train", "valid", "test"]
MIN_HISTORY = st.integers(0, 4)


def rank(row: tuple[str, str, float, int]) -> tuple[int, int, int]:
    return row[3], int(row[0]), int(row[1])


@given(cores(), MIN_HISTORY)
def test_samples_equal_the_naive_loop(core: pl.DataFrame, least: int) -> None:
    samples = make_samples(core, ProtocolSpec(min_history=least), LABEL)
    check_schema(samples, SAMPLES, "small")
    seen: dict[str, int] = {}
    expected: list[tuple[object, ...]] = []
    for user, item, rating, time in sorted(core.rows(), key=rank):
        if (length := seen.get(user, 0)) >= least:
            expected.append((len(expected), user, item, rating, int(rating > 3), time, length))
        seen[user] = seen.get(user, 0) + 1
    assert samples.drop("split").rows() == expected


@given(cores(), MIN_HISTORY)
def test_a_history_never_holds_the_target_or_anything_later(core: pl.DataFrame, least: int) -> None:
    for sample in make_samples(core, ProtocolSpec(min_history=least), LABEL).iter_rows(named=True):
        history = core.filter(pl.col("user_id") == sample["user_id"]).head(sample["history_length"]).rows()
        target = (sample["user_id"], sample["item_id"], sample["rating"], sample["timestamp"])
        assert len(history) == sample["history_length"] >= least
        assert all(rank(row) < rank(target) for row in history)


@given(cores(most=60), MIN_HISTORY)
def test_splits_are_disjoint_ordered_in_time_and_of_the_right_size(core: pl.DataFrame, least: int) -> None:
    samples = make_samples(core, ProtocolSpec(min_history=least), LABEL)
    n = samples.height
    codes = [SPLITS.index(split) for split in samples["split"]]
    assert codes == sorted(codes)
    assert samples["sample_id"].to_list() == list(range(n))
    assert samples.select("user_id", "item_id").is_unique().all()
    assert [codes.count(code) for code in range(3)] == [n * 8 // 10, n // 10, n - n * 8 // 10 - n // 10]
    times = [samples.filter(pl.col("split") == split)["timestamp"] for split in SPLITS]
    for earlier, later in pairwise(times):
        assert earlier.is_empty() or later.is_empty() or earlier.max() <= later.min()  # type: ignore[operator]


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.29, 0.01, 0.7), (0.98, 0.01, 0.01)])
def test_other_fractions_are_met_exactly(fractions: tuple[float, float, float]) -> None:
    core = in_global_order(frame([(str(u), str(i), 3.0, i) for u in range(10) for i in range(10)]))
    samples = make_samples(core, ProtocolSpec(min_history=0, fractions=fractions), LABEL)
    counts = dict(samples["split"].value_counts().iter_rows())
    assert [counts.get(split, 0) for split in SPLITS] == [round(100 * share) for share in fractions]


@given(cores(), MIN_HISTORY)
def test_training_interactions_end_with_the_last_training_sample(core: pl.DataFrame, least: int) -> None:
    samples = make_samples(core, ProtocolSpec(min_history=least), LABEL)
    training = training_interactions(core, samples)
    pairs = [set(samples.filter(pl.col("split") == split).select("user_id", "item_id").rows()) for split in SPLITS]
    known = set(training.select("user_id", "item_id").rows())
    assert pairs[0] <= known
    assert not known & (pairs[1] | pairs[2])
    assert training.equals(core.head(training.height))
    if pairs[0]:
        assert training.select("user_id", "item_id").rows()[-1] in pairs[0]
    else:
        assert training.is_empty() and training.schema == core.schema


def test_ids_are_ordered_as_numbers_within_one_second() -> None:
    core = in_global_order(frame([("10", "1", 3.0, 5), ("9", "10", 3.0, 5), ("9", "9", 3.0, 5), ("9", "1", 3.0, 6)]))
    assert core.select("user_id", "item_id").rows() == [("9", "9"), ("9", "10"), ("10", "1"), ("9", "1")]


@pytest.mark.parametrize(
    ("n", "sizes"),
    [(970_009, (776_007, 97_000, 97_002)), (141_829, (113_463, 14_182, 14_184)), (8_723, (6_978, 872, 873))],
    ids=["ml-1m", "amazon", "bookcrossing"],
)
def test_the_published_split_sizes_are_met(n: int, sizes: tuple[int, int, int]) -> None:
    """The papers' code on MovieLens-1M and Amazon Movies & TV."""
    counts = dict(_split(n, (0.8, 0.1, 0.1), None).value_counts().iter_rows())
    assert tuple(counts[split] for split in ("train", "valid", "test")) == sizes


def test_strictly_earlier_history_leaves_out_the_targets_own_second() -> None:
    core = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "a", "a", "b"],
            "item_id": ["1", "2", "1", "3", "4", "9"],
            "timestamp": [10, 20, 20, 20, 30, None],
        },
        schema_overrides={"timestamp": pl.Int64},
    )
    samples = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "b"],
            "item_id": ["2", "3", "4", "9"],
            "timestamp": [20, 20, 30, None],
            "history_length": [1, 2, 3, 1],
        },
        schema_overrides={"timestamp": pl.Int64, "history_length": pl.Int32},
    )
    cut = strictly_earlier(samples, core)
    assert cut["history_length"].to_list() == [1, 1, 3, 1]
    assert cut.columns == samples.columns and cut["item_id"].to_list() == samples["item_id"].to_list()


def test_all_but_last_leaves_out_the_last_of_each_user() -> None:
    core = pl.DataFrame({"user_id": ["a", "b", "a", "b", "c"], "item_id": ["1", "2", "3", "4", "5"]})
    assert all_but_last(core)["item_id"].to_list() == ["1", "2"]
