"""Samples: which rating is to be predicted from which history, and which split it falls into."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.datasets.negatives import with_negatives
from rallrec_pipeline.datasets.order import in_user_order, second_of
from rallrec_pipeline.datasets.protocol_spec import DatesSpec, LabelSpec, ProtocolSpec

MAX_SPARED = 0.2
LIKED_BOUNDS = (0.1, 0.9)  # share of liked samples in each split: beyond, a split says too little about one class
COLUMNS = ("sample_id", "user_id", "item_id", "split", "rating", "label", "timestamp", "history_length")


def make_samples(core: pl.DataFrame, protocol: ProtocolSpec, label: LabelSpec, seed: int = 0) -> pl.DataFrame:
    """One sample per rating to predict (table `samples`), in the order of `core`.

    The history of a sample is the first `history_length` core interactions of its user.

    `time`: `core` is in global order; every rating with at least `min_history` earlier ones is a target. The split is
    global in time: the first 80% of the samples are `train`, then `valid`, then `test`.
    `date`: as `time`, but `valid` and `test` begin on the days of the protocol.
    `user`: `core` is in user order; each user's last rating is the one target, and users are split at random.
    `last`: `core` is in user order, targets are as with `time`; each user's last rating is `test`, the one before it
    `valid`, all others `train`.

    For implicit feedback each target is followed by its sampled negatives, of the same split.
    """
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    target = pl.col("history_length") >= protocol.min_history
    if protocol.split == "user":
        target &= pl.col("history_length") == pl.len().over("user_id") - 1
    rows = core.with_columns(place).filter(target)
    if protocol.split == "last":
        rows = rows.with_columns(_leave_last_out())
    elif protocol.dates is not None:
        rows = rows.with_columns(_by_date(protocol.dates))
    else:
        draw = np.random.default_rng([seed, 1]).permutation(rows.height) if protocol.split == "user" else None
        rows = rows.with_columns(_split(rows.height, protocol.fractions, draw))
    if label.negatives:
        rows = with_negatives(rows, core, label.negatives, seed)
    return rows.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sample_id"),
        (pl.col("rating") > label.like_above).cast(pl.Int8).alias("label"),
    ).select(COLUMNS)


def in_protocol_order(core: pl.DataFrame, protocol: ProtocolSpec, seed: int) -> pl.DataFrame:
    """`core` (in global order) in the order that histories are taken in; without times but where the split is in time.

    The order says all about parts of seconds: they are left out.
    """
    ordered = in_user_order(core, seed) if protocol.orders_users_alone else core
    return ordered.drop("microsecond", strict=False)


def training_interactions(core: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """The core interactions that something may be fitted on, in order.

    Split in time: all at or before the last training sample; the ratings of users too new for a sample are cut off
    in time too. Split by user or leave-last-out (then the core has no times): all but the targets of validation and
    test samples, so those of one user may be younger than a target of another.
    """
    if core["timestamp"].null_count():
        held_out = samples.filter(pl.col("split") != "train").select("user_id", "item_id")
        return core.join(held_out, on=["user_id", "item_id"], how="anti", maintain_order="left")
    last = _observed(samples.filter(pl.col("split") == "train"), core).tail(1).select("user_id", "item_id")
    if last.is_empty():
        return core.clear()
    positions = core.select("user_id", "item_id").with_row_index().join(last, on=["user_id", "item_id"], how="semi")
    return core.head(int(positions["index"][0]) + 1)


def strictly_earlier(samples: pl.DataFrame, core: pl.DataFrame) -> pl.DataFrame:
    """`samples` with `history_length` cut to what the user rated in an earlier second than the target.

    People rate several items at once: half of the histories of MovieLens hold an item of the target's own second.
    Without times nothing changes. `core` is in the order that histories are taken in.
    """
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("earlier")
    first = core.select("user_id", "timestamp", place).drop_nulls("timestamp")
    first = first.group_by("user_id", "timestamp").agg(pl.col("earlier").min())
    cut = samples.join(first, on=["user_id", "timestamp"], how="left", maintain_order="left")
    shorter = pl.min_horizontal("earlier", "history_length").alias("history_length")
    return cut.with_columns(shorter).drop("earlier")


def all_but_last(core: pl.DataFrame) -> pl.DataFrame:
    """`core` without the last interaction of each user: what the published code fits LightGCN on, a leak in time."""
    return core.filter(pl.int_range(pl.len()).over("user_id") < pl.len().over("user_id") - 1)


def evaluated(samples: pl.DataFrame, protocol: ProtocolSpec) -> pl.DataFrame:
    """`samples` without the test samples that are never evaluated: those after the first `first_test_samples`."""
    if protocol.first_test_samples is None:
        return samples
    place = pl.int_range(pl.len()).over("split")
    return samples.filter((pl.col("split") != "test") | (place < protocol.first_test_samples))


def without_tuning_targets(training: pl.DataFrame, tuning: pl.DataFrame) -> pl.DataFrame:
    """`training` without the targets of the samples that prompts are tuned on.

    Vectors fitted on a target's rating pull the history items rated like it towards it: retrieval for tuning
    prompts would know their answers (neighbour AUC 0.81 on training against 0.74 on validation samples), and the
    LLM would learn to trust neighbours more than it should. Where the tuning samples are too large a part of the
    training interactions to be spared (`MAX_SPARED`), they stay in.
    """
    if tuning.height > MAX_SPARED * training.height:
        return training
    return training.join(tuning, on=["user_id", "item_id"], how="anti", maintain_order="left")


def _observed(samples: pl.DataFrame, core: pl.DataFrame) -> pl.DataFrame:
    """The samples whose target is an interaction: all but sampled negatives."""
    recent = samples.tail(100_000)  # only the last one is wanted
    return recent.join(core.select("user_id", "item_id"), on=["user_id", "item_id"], how="semi", maintain_order="left")


def _leave_last_out() -> pl.Expr:
    """Names of the splits by place from the end of each user's samples."""
    from_end = pl.int_range(pl.len()).reverse().over("user_id")
    late = pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid"))
    return late.otherwise(pl.lit("train")).alias("split")


def _by_date(dates: DatesSpec) -> pl.Expr:
    """Names of the splits by the day of the target."""
    second = pl.col("timestamp")
    late = pl.when(second >= second_of(dates.test)).then(pl.lit("test"))
    return late.when(second >= second_of(dates.valid)).then(pl.lit("valid")).otherwise(pl.lit("train")).alias("split")


def _split(n: int, fractions: tuple[float, float, float], order: NDArray[np.int64] | None) -> pl.Series:
    """Names of the splits by place, or by place in a drawn `order`."""
    train, valid = (int(n * share + 1e-9) for share in fractions[:2])  # rounded down alike, as published
    places = np.arange(n) if order is None else order
    codes = np.searchsorted([train, train + valid], places, side="right").astype(np.uint32)
    names = pl.Series(["train", "valid", "test"])
    return names[codes].alias("split") if n else pl.Series("split", [], dtype=pl.String)
