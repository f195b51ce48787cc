"""Statistics of the training split that prompts may state as facts (setting `prompts.facts`).

No fact knows its own answer: the target's mean is taken over earlier training ratings only (all of them for
validation and test samples), and a history item's mean leaves out the rating of the user who is asked about. Expected
ratings are out of time by themselves, but for the few weights of several experts (`baselines/opinions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from rallrec_pipeline.datasets.statistics import SHRINKAGE
from rallrec_pipeline.settings import Fact


@dataclass(frozen=True)
class ItemMeans:
    """What the means of items are made from.

    `samples` has sample_id and item_mean; `sums` item_id, total and count of the training ratings; `pairs` user_id and
    item_id of those of users who are asked about.
    """

    samples: pl.DataFrame
    sums: pl.DataFrame
    pairs: pl.DataFrame
    global_mean: float


@dataclass(frozen=True)
class Facts:
    """Each method gives as many Float64 as it is asked for, null for a fact that is switched off."""

    items: ItemMeans | None = None
    users: pl.DataFrame | None = None
    """sample_id and user_mean."""
    expected: pl.DataFrame | None = None
    """user_id, item_id and expected, what experts foretell."""

    def target_mean(self, sample_ids: pl.Series) -> pl.Series:
        """Mean rating of each sample's target."""
        return _looked_up(sample_ids, self.items.samples if self.items else None, "item_mean")

    def user_mean(self, sample_ids: pl.Series) -> pl.Series:
        """Mean rating in each sample's history."""
        return _looked_up(sample_ids, self.users, "user_mean")

    def expected_rating(self, rows: pl.DataFrame) -> pl.Series:
        """What experts foretell of each of `rows` (user_id, item_id)."""
        if self.expected is None:
            return pl.repeat(None, rows.height, dtype=pl.Float64, eager=True).alias("expected")
        keys = ["user_id", "item_id"]
        return rows.select(keys).join(self.expected, on=keys, how="left", maintain_order="left")["expected"]

    def history_mean(self, rows: pl.DataFrame) -> pl.Series:
        """Mean rating of history items (user_id, item_id, rating), each without its user's own rating of it."""
        if self.items is None:
            return pl.repeat(None, rows.height, dtype=pl.Float64, eager=True).alias("mean")
        own = self.items.pairs.with_columns(pl.lit(1).alias("own"))
        known = rows.join(self.items.sums, on="item_id", how="left", maintain_order="left")
        known = known.join(own, on=["user_id", "item_id"], how="left", maintain_order="left")
        others = pl.col("own").fill_null(0)
        total = pl.col("total").fill_null(0.0) - others * pl.col("rating").cast(pl.Float64)
        count = pl.col("count").fill_null(0) - others
        prior = SHRINKAGE * self.items.global_mean
        return known.select(((total + prior) / (count + SHRINKAGE)).alias("mean")).to_series()


def make_facts(
    wanted: Sequence[Fact],
    statistics: pl.DataFrame,
    histories: pl.DataFrame,
    training: pl.DataFrame,
    foretold: pl.DataFrame | None = None,
) -> Facts:
    """The facts in `wanted` for the samples of `histories`.

    `statistics` is `rating_statistics` of all samples; `training` the training interactions, `foretold` the table
    `expected_ratings`.
    """
    expected = foretold if "expected_rating" in wanted else None
    asked = statistics.join(histories.select("sample_id"), on="sample_id", how="semi")
    users = asked.select("sample_id", "user_mean") if "user_mean" in wanted else None
    if "item_mean" not in wanted:
        return Facts(users=users, expected=expected)
    rating = pl.col("rating").cast(pl.Float64)
    sums = training.group_by("item_id").agg(rating.sum().alias("total"), pl.len().cast(pl.Int64).alias("count"))
    pairs = training.join(histories.select("user_id").unique(), on="user_id", how="semi").select("user_id", "item_id")
    mean = float(training["rating"].cast(pl.Float64).mean() or 0.0)  # type: ignore[arg-type]
    return Facts(ItemMeans(asked.select("sample_id", "item_mean"), sums, pairs.unique(), mean), users, expected)


def _looked_up(sample_ids: pl.Series, known: pl.DataFrame | None, name: str) -> pl.Series:
    if known is None:
        return pl.repeat(None, len(sample_ids), dtype=pl.Float64, eager=True).alias(name)
    rows = sample_ids.alias("sample_id").to_frame().join(known, on="sample_id", how="left", maintain_order="left")
    return rows[name].cast(pl.Float64)
