"""Each user's core interactions in time order, as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.errors import DataError


@dataclass(frozen=True)
class UserSequences:
    """User u's interactions are `offsets[u]:offsets[u + 1]` of `items` (n,) int32 codes and `ratings` (n,) float32.

    An item's code is its position in `item_ids`, the order of the table `core_items`.
    """

    user_ids: list[str]
    item_ids: list[str]
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    ratings: NDArray[np.float32]

    @classmethod
    def from_interactions(cls, core_interactions: pl.DataFrame, item_ids: Sequence[str]) -> UserSequences:
        """Group interactions (in global order) by user; users in order of first appearance."""
        user_ids = core_interactions["user_id"].unique(maintain_order=True)
        users = codes_in(core_interactions["user_id"], user_ids)
        items = codes_in(core_interactions["item_id"], pl.Series(item_ids, dtype=pl.String))
        order = np.argsort(users, kind="stable")
        offsets = np.zeros(len(user_ids) + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=len(user_ids)), out=offsets[1:])
        ratings = core_interactions["rating"].to_numpy().astype(np.float32)
        return cls(user_ids.to_list(), list(item_ids), offsets, items[order], ratings[order])

    def user_codes(self, ids: pl.Series) -> NDArray[np.int32]:
        """Codes of user ids. Raises DataError for an unknown one."""
        return codes_in(ids, pl.Series(self.user_ids, dtype=pl.String))

    def item_codes(self, ids: pl.Series) -> NDArray[np.int32]:
        """Codes of item ids. Raises DataError for an unknown one."""
        return codes_in(ids, pl.Series(self.item_ids, dtype=pl.String))


def codes_in(ids: pl.Series, known: pl.Series) -> NDArray[np.int32]:
    """Place of each id in `known`: (n,) int32. Raises DataError for an unknown one."""
    lookup = pl.DataFrame({"id": known}).with_row_index("code")
    joined = ids.alias("id").to_frame().join(lookup, on="id", how="left", maintain_order="left")
    if joined["code"].null_count():
        unknown = joined.filter(pl.col("code").is_null())["id"][0]
        raise DataError(f"id {unknown!r} is not in the table it refers to: run `rallrec run` again from core_items on")
    return joined["code"].to_numpy().astype(np.int32)
