"""Made-up ratings with something in them to be found, as the tables that experts read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rallrec_pipeline.baselines.experts import Evidence
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
from rallrec_pipeline.datasets.protocol_spec import LabelSpec, ProtocolSpec
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline_tests.datasets.worlds import SCHEMA, in_global_order

LIKE_ABOVE = 3.0


def films(item_fields: dict[str, str], user_fields: dict[str, str]) -> DatasetSpec:
    """A dataset of films with genres and these fields besides, from columns of its files."""
    genres = {"column": "g", "split": "|"}
    return DatasetSpec.model_validate(
        {
            "name": "films",
            "title": "Films",
            "source": {"kind": "folder", "location": "films"},
            "interactions": {
                "file": "ratings.csv",
                "columns": {"user_id": "u", "item_id": "i", "rating": "r", "timestamp": "t"},
            },
            "items": {"file": "films.csv", "columns": {"item_id": "i", "title": "t", "genres": genres, **item_fields}},
            "users": {"file": "users.csv", "columns": {"user_id": "u", **user_fields}},
            "label": {"scale": [1, 2, 3, 4, 5], "like_above": 3},
        }
    )


@dataclass(frozen=True)
class World:
    """Core, samples, and vectors of the items that tell their kind: the first half is liked by the first users."""

    core: pl.DataFrame
    samples: pl.DataFrame
    item_ids: list[str]
    vectors: np.ndarray

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            self.core,
            self.samples,
            histories_of(self.core, self.samples),
            training_interactions(self.core, self.samples).select("user_id", "item_id"),
            self.item_ids,
            self.vectors,
            self.vectors[:, :4],
        )

    def places(self, split: str) -> np.ndarray:
        return np.flatnonzero((self.samples["split"] == split).to_numpy())

    def with_core(self, core: pl.DataFrame) -> World:
        """The same samples of another core."""
        return World(core, self.samples, self.item_ids, self.vectors)


def world(
    users: int = 40, items: int = 24, each: int = 14, split: str = "time", implicit: bool = False, seed: int = 0
) -> World:
    """Two kinds of users and of items; a user likes items of the own kind, but for noise."""
    rng = np.random.default_rng(seed)
    kind = np.arange(items) < items // 2
    rows = []
    for user in range(users):
        own_kind = kind == (user % 2 == 0)
        odds = np.where(own_kind, 8.0, 1.0) if implicit else np.ones(items)
        for item in rng.choice(items, each, replace=False, p=odds / odds.sum()):
            own = own_kind[item]
            rating = np.clip(np.round(3 + (1.4 if own else -1.0) + rng.normal(0, 0.8)), 1, 5)
            rows.append((f"u{user}", f"i{item}", 1.0 if implicit else float(rating), int(rng.integers(0, 10_000))))
    core = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    protocol = ProtocolSpec.model_validate({"min_history": 3, "split": split})
    judged = LabelSpec(scale=(1, 2, 3, 4, 5), like_above=LIKE_ABOVE)
    label = LabelSpec(scale=(0, 1), negatives=2) if implicit else judged
    ordered = in_protocol_order(in_global_order(core), protocol, seed)
    vectors = rng.normal(0, 0.3, (items, 8)).astype(np.float32)
    vectors[:, 0] += np.where(kind, 1, -1)
    return World(ordered, make_samples(ordered, protocol, label, seed), [f"i{item}" for item in range(items)], vectors)


def histories_of(core: pl.DataFrame, samples: pl.DataFrame, k: int = 3) -> pl.DataFrame:
    """Of each sample the last `k` ratings, the newest first, in place of retrieved ones."""
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("place")
    earlier = samples.select("sample_id", "user_id", "history_length").join(core.with_columns(place), on="user_id")
    earlier = earlier.filter(
        pl.col("place") < pl.col("history_length"), pl.col("place") >= pl.col("history_length") - k
    ).sort("sample_id", "place", descending=[False, True])
    lists = earlier.group_by("sample_id", maintain_order=True).agg(
        pl.col("item_id").alias("reranked"), pl.col("rating").alias("reranked_ratings")
    )
    return samples.join(lists, on="sample_id", how="left", maintain_order="left").with_columns(
        pl.col("reranked").fill_null([]), pl.col("reranked_ratings").fill_null([])
    )
