"""Statistics of the training split that prompts may state as facts (setting `prompts.facts`).

No fact knows its own answer: the target's mean is taken over earlier training ratings only (all of them for
validation and test samples), and a history item's mean leaves out the rating of the user who is asked about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from rallrec_pipeline.datasets.statistics import SHRINKAGE
from rallrec_pipeline.settings import Fact


@dataclass(frozen=True)
class Facts:
    """Look-ups; every method gives None for a fact that is switched off."""

    target_means: Mapping[int, float] = field(default_factory=dict)
    user_means: Mapping[int, float] = field(default_factory=dict)
    item_sums: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    training_pairs: frozenset[tuple[str, str]] = frozenset()
    global_mean: float = 0.0

    def target_mean(self, sample_id: int) -> float | None:
        """Mean rating of the sample's target."""
        return self.target_means.get(sample_id)

    def user_mean(self, sample_id: int) -> float | None:
        """Mean rating in the sample's history."""
        return self.user_means.get(sample_id)

    def history_mean(self, user_id: str, item_id: str, rating: float) -> float | None:
        """Mean rating of a history item, without this user's own rating of it."""
        if not self.target_means:
            return None
        total, count = self.item_sums.get(item_id, (0.0, 0))
        if (user_id, item_id) in self.training_pairs:
            total, count = total - rating, count - 1
        return (total + SHRINKAGE * self.global_mean) / (count + SHRINKAGE)


def make_facts(
    wanted: Sequence[Fact], statistics: pl.DataFrame, histories: pl.DataFrame, training: pl.DataFrame
) -> Facts:
    """The facts in `wanted` for the samples of `histories`.

    `statistics` is `rating_statistics` of all samples; `training` the training interactions.
    """
    rows = statistics.join(histories.select("sample_id"), on="sample_id", how="semi")
    by_sample = {name: dict(zip(rows["sample_id"], rows[name], strict=True)) for name in ("item_mean", "user_mean")}
    facts = Facts(user_means=by_sample["user_mean"] if "user_mean" in wanted else {})
    if "item_mean" not in wanted:
        return facts
    sums = training.group_by("item_id").agg(pl.col("rating").cast(pl.Float64).sum(), pl.len())
    users = training.join(histories.select("user_id").unique(), on="user_id", how="semi")
    return Facts(
        target_means=by_sample["item_mean"],
        user_means=facts.user_means,
        item_sums={item: (total, count) for item, total, count in sums.iter_rows()},
        training_pairs=frozenset(users.select("user_id", "item_id").iter_rows()),
        global_mean=float(training["rating"].cast(pl.Float64).mean() or 0.0),  # type: ignore[arg-type]
    )
