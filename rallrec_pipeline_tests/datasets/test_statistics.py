"""Rating statistics against a loop over rows, and their blindness to what they must not know."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from rallrec_pipeline.datasets.histories import make_samples, training_interactions
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.statistics import rating_statistics
from rallrec_pipeline_tests.datasets.worlds import cores, frame, in_global_order

LABEL = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=3)
ITEM_COLUMNS = ["item_mean", "item_count", "global_mean"]
CORES = cores(users=4, items=20, most=60)


def samples_of(core: pl.DataFrame, least: int = 2) -> pl.DataFrame:
    return make_samples(core, ProtocolSpec(min_history=least), LABEL)


def naive(core: pl.DataFrame, samples: pl.DataFrame) -> list[dict[str, float]]:
    """Each sample's figures from plain lists."""
    rows = core.rows()
    training = training_interactions(core, samples).rows()
    overall = fmean(row[2] for row in training) if training else 0.0

    def shrunk(values: list[float]) -> float:
        return (sum(values) + 5 * overall) / (len(values) + 5)

    figures = []
    for sample in samples.iter_rows(named=True):
        place = next(k for k, row in enumerate(rows) if row[:2] == (sample["user_id"], sample["item_id"]))
        known = training[:place] if sample["split"] == "train" else training
        item = [row[2] for row in known if row[1] == sample["item_id"]]
        user = [row[2] for row in rows[:place] if row[0] == sample["user_id"]]
        figures.append(
            {
                "sample_id": sample["sample_id"],
                "item_mean": shrunk(item),
                "item_count": len(item),
                "user_mean": shrunk(user),
                "user_count": len(user),
                "recent_mean": fmean(user[-10:]) if user else overall,
                "global_mean": overall,
            }
        )
    return figures


@settings(max_examples=60)
@given(CORES, st.integers(0, 3))
def test_equal_the_naive_loop(core: pl.DataFrame, least: int) -> None:
    samples = samples_of(core, least)
    figures = rating_statistics(core, samples)
    assert figures.height == samples.height
    expected = naive(core, samples)
    for name in figures.columns:
        values = [row[name] for row in expected]
        np.testing.assert_allclose(figures[name].to_numpy(), np.array(values, float), rtol=1e-5, err_msg=name)


def test_equal_the_naive_loop_on_long_histories() -> None:
    rng = np.random.default_rng(7)
    pairs = rng.permutation(8 * 40)[:250]
    rows = [(str(p // 40), str(p % 40), float(rng.integers(1, 6)), int(rng.integers(0, 60))) for p in pairs]
    core = in_global_order(frame(rows))
    samples = samples_of(core, 5)
    assert samples["history_length"].max() > 20  # type: ignore[operator]
    figures = rating_statistics(core, samples)
    expected = pl.DataFrame(naive(core, samples))
    for name in figures.columns:
        np.testing.assert_allclose(figures[name].to_numpy(), expected[name].to_numpy(), rtol=1e-5, err_msg=name)


@given(CORES, st.data())
def test_no_validation_or_test_rating_reaches_an_item_statistic(core: pl.DataFrame, data: st.DataObject) -> None:
    samples = samples_of(core)
    cut = training_interactions(core, samples).height
    ratings = core["rating"].to_list()
    later = data.draw(st.lists(st.integers(1, 5), min_size=len(ratings) - cut, max_size=len(ratings) - cut))
    changed = core.with_columns(pl.Series("rating", ratings[:cut] + later, dtype=pl.Float32))
    again = rating_statistics(changed, samples_of(changed))
    before = rating_statistics(core, samples)
    assert again.select(ITEM_COLUMNS).equals(before.select(ITEM_COLUMNS))
    train = (samples["split"] == "train").to_numpy()
    assert again.filter(train).equals(before.filter(train))


@given(CORES, st.data())
def test_no_sample_knows_its_own_rating(core: pl.DataFrame, data: st.DataObject) -> None:
    samples = samples_of(core)
    if samples.is_empty():
        return
    row = data.draw(st.integers(0, samples.height - 1))
    pair = samples.select("user_id", "item_id").row(row)
    is_it = (pl.col("user_id") == pair[0]) & (pl.col("item_id") == pair[1])
    # the global mean of the training ratings moves with any of them, so compare the plain sums behind the shrunk means
    changed = core.with_columns(pl.when(is_it).then(6 - pl.col("rating")).otherwise("rating").alias("rating"))
    for mean, count in (("item_mean", "item_count"), ("user_mean", "user_count")):
        sums = []
        for ratings in (core, changed):
            figures = rating_statistics(ratings, samples).row(row, named=True)
            sums.append(figures[mean] * (figures[count] + 5) - 5 * figures["global_mean"])
        assert abs(sums[0] - sums[1]) < 1e-3


def test_dtypes_are_narrow() -> None:
    core = pl.DataFrame(
        schema={"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    )
    figures = rating_statistics(core, samples_of(core))
    assert dict(figures.schema) == {
        "sample_id": pl.Int64,
        "item_mean": pl.Float32,
        "item_count": pl.Int32,
        "user_mean": pl.Float32,
        "user_count": pl.Int32,
        "recent_mean": pl.Float32,
        "global_mean": pl.Float32,
    }
