"""The published code's rules in pandas, on frames of user, item, rating and time: a reference for the built-in ones."""

from __future__ import annotations

import pandas as pd

Bounds = tuple[float, float]


def bounded_core(ratings: pd.DataFrame, users: Bounds, items: Bounds) -> pd.DataFrame:
    """Users beyond their bounds leave, then items, until no rating does."""
    before = -1
    while before != len(ratings):
        before = len(ratings)
        for key, bounds in (("user", users), ("item", items)):
            counts = ratings[key].map(ratings[key].value_counts())
            ratings = ratings[counts.between(*bounds)]
    return ratings


def samples(ratings: pd.DataFrame, least: int = 5) -> pd.DataFrame:
    """Ratings with at least `least` earlier ones of the user, in order, with `history` (how many) and `split`."""
    ordered = ratings.sort_values(["time", "user", "item"], kind="stable")
    found = ordered.assign(history=ordered.groupby("user").cumcount()).query("history >= @least")
    train, valid = int(0.8 * len(found)), int(0.1 * len(found))
    test = len(found) - train - valid
    return found.assign(split=["train"] * train + ["valid"] * valid + ["test"] * test)
