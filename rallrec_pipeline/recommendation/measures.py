"""How good the first k items of each user are, against what he came to like: all items compete, none is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.recommendation.candidates import best_unseen
from rallrec_pipeline.recommendation.scores import Scorer
from rallrec_pipeline.recommendation.today import Codes, Flags, Ints, Ratings, Visits

Floats = NDArray[np.float64]
DEPTHS = (5, 10, 20)
BY_USER = ("recall", "ndcg", "popularity_lift", "novelty")


@dataclass(frozen=True)
class Held:
    """n users at the moment before a split, and what they liked in it: visit and item of each, (l,)."""

    visits: Visits
    visit: Ints
    item: Codes

    def of_items(self, kept: Flags) -> Held:
        """What was liked of the items (m,) that are `kept`."""
        chosen = kept[self.item]
        return Held(self.visits, self.visit[chosen], self.item[chosen])


def held_out(samples: pl.DataFrame, split: str, ratings: Ratings, users: int = 0) -> Held:
    """The users who liked something in `split`, each with the history before the first of its samples.

    `samples` is the table; of the users at most `users` are taken, evenly spaced (0: all).
    """
    rows = samples.filter(pl.col("split") == split)
    first = rows.group_by("user_id", maintain_order=True).agg(pl.col("history_length").min())
    liked = rows.filter(pl.col("label") == 1)
    asked = first.join(liked.select("user_id").unique(), on="user_id", how="semi", maintain_order="left")
    if users and users < asked.height:
        asked = asked[np.linspace(0, asked.height - 1, users).astype(np.int64)]
    visits = Visits(ratings.sequences.user_codes(asked["user_id"]), asked["history_length"].to_numpy().astype(np.int64))
    found = liked.join(asked.select("user_id").with_row_index("visit"), on="user_id")
    return Held(visits, found["visit"].to_numpy().astype(np.int64), ratings.sequences.item_codes(found["item_id"]))


def first_items(score: Scorer, ratings: Ratings, visits: Visits, depth: int = DEPTHS[-1]) -> Codes:
    """The `depth` unseen items (n, depth) with the highest score; -1 pads."""
    n_items = len(ratings.sequences.item_ids)
    found = np.full((len(visits), depth), -1, np.int32)
    for block in visits.blocks(n_items):
        some = visits[block]
        best = best_unseen(score(some), ratings.seen(some), depth)
        found[block, : best.shape[1]] = best
    return found


def measures_by_user(first: Codes, held: Held, ratings: Ratings, counts: Ints, users: int) -> dict[str, Floats]:
    """Each of `BY_USER` at each of `DEPTHS` as `<measure>_at_<k>` (n,); NaN where one is not defined.

    `first` (n, at least 20) are the recommended items, the best first; `counts` (m,) the training ratings of items by
    `users` users. Recall is the share of the liked items that are among the first k, NDCG the discounted gain over that
    of the best order. Popularity lift is the mean count of the k items over that of the history, less 1; novelty their
    mean self-information in bits.
    """
    n, m = len(held.visits), len(counts)
    liked = np.zeros((n, m), np.bool_)
    liked[held.visit, held.item] = True
    known = first >= 0
    places = np.maximum(first, 0)
    hits = known & np.take_along_axis(liked, places, axis=1)
    bits = -np.log2((counts + 1) / (users + 1))
    visit, flat = ratings.touched(held.visits)
    rated = np.bincount(visit, counts[ratings.sequences.items[flat]], n) / held.visits.lengths.clip(1)
    discount = 1 / np.log2(np.arange(first.shape[1]) + 2)
    ideal, total = np.cumsum(discount), liked.sum(axis=1)
    found: dict[str, Floats] = {}
    for k in DEPTHS:
        shown = known[:, :k].sum(axis=1)
        best = ideal[np.minimum(total, k) - 1]
        popular = _mean(counts[places[:, :k]] * known[:, :k], shown)
        found[f"recall_at_{k}"] = _over(hits[:, :k].sum(axis=1), total)
        found[f"ndcg_at_{k}"] = np.where(total > 0, (hits[:, :k] * discount[:k]).sum(axis=1) / best, np.nan)
        found[f"popularity_lift_at_{k}"] = _over(popular, rated) - 1
        found[f"novelty_at_{k}"] = _mean(bits[places[:, :k]] * known[:, :k], shown)
    return found


def coverage(first: Codes, n_items: int) -> dict[str, float]:
    """Share of the catalogue that is among the first k of any user, `coverage_at_<k>`."""
    shown = {k: np.unique(first[:, :k]) for k in DEPTHS}
    return {f"coverage_at_{k}": float((items >= 0).sum() / max(1, n_items)) for k, items in shown.items()}


def names_of(measures: Sequence[str] = BY_USER) -> list[str]:
    """Names of measures with their depth."""
    return [f"{measure}_at_{k}" for measure in measures for k in DEPTHS]


def _mean(values: NDArray[np.float64] | Ints, counts: Ints) -> Floats:
    return _over(values.sum(axis=1), counts)


def _over(above: NDArray[np.float64] | Ints, below: NDArray[np.float64] | Ints) -> Floats:
    """`above` / `below`, NaN where that is zero."""
    return np.divide(above, below, out=np.full(len(below), np.nan), where=np.asarray(below) > 0)
