"""The table `recommendations`: how it is made of codes, what is read of it, and how it is exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.lists import consecutive_lists
from rallrec_pipeline.lake.tables import RECOMMENDATIONS
from rallrec_pipeline.recommendation.candidates import NO_ITEM, sources_of
from rallrec_pipeline.recommendation.recommender import Best, Catalogue

WITH_ITEM, BEFORE_ITEM = "with this item", "before this item"
"""Values of the column `fit`."""


class Maker(NamedTuple):
    """What gave a P(yes): a method by name, and the fingerprint of all that it is made of."""

    method: str
    fingerprint: str


def for_user(frame: pl.DataFrame, user_id: str, n: int) -> pl.DataFrame:
    """The first `n` rows of a user, the best first; no rows for a user that has none."""
    return frame.filter((pl.col("user_id") == user_id) & (pl.col("rank") <= n)).sort("rank")


def as_table(
    user_ids: Sequence[str],
    hashes: Sequence[str],
    best: Best,
    because: NDArray[np.int32],
    catalogue: Catalogue,
    expert: Maker,
    dearer: Maker | None = None,
) -> pl.DataFrame:
    """The rows of n users: their `best` items (n, N), and codes (n, N, K) of the lines behind each.

    What `best` says was asked about was answered by `dearer`, all else by the `expert`.
    """
    there = best.items != NO_ITEM
    user, place = np.nonzero(there)
    items, lines = best.items[there], because[there]
    known = lines >= 0
    ids = pl.Series(catalogue.item_ids, dtype=pl.String)
    names = pl.Series([sources_of(bits) for bits in range(256)], dtype=pl.List(pl.String))
    makers = pl.DataFrame([expert, dearer or expert], schema=dict.fromkeys(Maker._fields, pl.String), orient="row")
    made_by = makers[best.asked[there].astype(np.int64)]
    fit = np.where(catalogue.has_ratings[items], WITH_ITEM, BEFORE_ITEM)
    return pl.DataFrame(
        {
            "user_id": pl.Series(user_ids, dtype=pl.String).gather(user),
            "rank": pl.Series(place + 1, dtype=pl.Int32),
            "item_id": ids.gather(items),
            "p_yes": best.p_yes[there],
            "because": consecutive_lists(ids.gather(lines[known]), known.sum(axis=1)),
            "sources": names.gather(best.proposed[there]),
            "method": made_by["method"],
            "fit": pl.Series(fit, dtype=pl.String),
            "model_fingerprint": made_by["fingerprint"],
            "input_hash": pl.Series(hashes, dtype=pl.String).gather(user),
        },
        schema=RECOMMENDATIONS.columns,
    )


def write_lines(frame: pl.DataFrame, path: Path) -> Path:
    """One JSON line a user, with the recommended items in their order; of several methods each item says its own."""
    own = ("method",) if frame["method"].n_unique() > 1 else ()
    items = pl.struct("rank", "item_id", "p_yes", "because", "sources", "fit", *own).alias("items")
    lines = frame.group_by("user_id", maintain_order=True).agg(pl.col("method").first(), items)
    with atomic_path(path) as temporary:
        lines.write_ndjson(temporary)
    return path
