"""The ten best items of every user, from 200 candidates each, by an expert: MovieLens-100K, and how time grows.

    python benchmarks/recommendations.py          MovieLens-100K; 20,000 and 100,000 made-up users
    python benchmarks/recommendations.py --cpu    processor seconds, for a machine that is busy

Timed is all that follows the tables: the fit (MovieLens only), candidates, P(yes), ranks, the lines behind each item
and the table. Vectors are random, which takes as long as real ones. Of the made-up users the smaller number foretells
the larger, and that one a million: what comes before the second block once, the median of all later blocks for each
block, and the table that is put together at the end by its rows. A straight line through the totals of two numbers of
users would weigh an error of the smaller ones many times, and a block that another program has slowed down would count.
Prints one JSON line a figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
import polars as pl
from movielens import MovieLens
from rows import print_row

from rallrec_pipeline.recommendation.batch import Batch
from rallrec_pipeline.recommendation.fit import ExpertFit, fit_expert
from rallrec_pipeline.recommendation.recommender import Catalogue, Recommender
from rallrec_pipeline.recommendation.table import Maker
from rallrec_pipeline.recommendation.today import Ratings
from rallrec_pipeline.retrieval.histories import Retriever
from rallrec_pipeline.retrieval.index import build_index
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import ExpertSettings, RecommendationSettings, RetrievalSettings

LIMIT_S, SEED, LIKE_ABOVE = 20, 2025, 3.0
ITEMS, EACH, FITTED = 5_000, 60, 2_000  # made-up: items, mean ratings of a user, users that are fitted on
WIDTHS = {"mixture": 320, "text": 384, "collaborative": 64}
MILLION, MOST_MINUTES = 1_000_000, 240


def main() -> None:
    """Measure both and print the figures."""
    parser = argparse.ArgumentParser(description="Measure how long recommendations of all users take.")
    parser.add_argument("--users", default="20000,100000", help="two numbers of made-up users, ascending")
    parser.add_argument("--cpu", action="store_true", help="processor seconds, for a machine that is busy")
    asked = parser.parse_args()
    clock = time.process_time if asked.cpu else time.perf_counter
    seconds, users = movielens(clock)
    name = f"top 10 of all {users} users of MovieLens-100K by an expert, from 200 candidates each"
    print_row(name, "s", seconds, LIMIT_S, "limit", 1, faster_is_less=True)
    few, many = (made_up(int(count), clock) for count in asked.users.split(","))
    expected = few.foretold(many.users)
    told = "; ".join(one.told() for one in (few, many))
    print(f"{told}; {many.users:,} foretold {expected:.1f} s", file=sys.stderr)
    name = f"{many.users:,} users foretold from {few.users:,}, distance from what was measured"
    notes = {"foretold_s": round(expected, 1), "measured_s": round(many.seconds, 1)}
    print_row(name, "share", abs(expected / many.seconds - 1), 0.1, "limit", 1, faster_is_less=True, notes=notes)
    name = f"top 10 of 1,000,000 users of {ITEMS:,} items, foretold from {many.users:,}"
    million = many.foretold(MILLION) / 60
    print_row(name, "minutes", million, MOST_MINUTES, "limit", 1, faster_is_less=True)


@dataclass(frozen=True)
class Taken:
    """What a number of users took: seconds until each block of them was done, and until the table was there."""

    users: int
    done: list[tuple[int, float]]
    seconds: float

    def foretold(self, wanted: int) -> float:
        """Seconds of `wanted` users."""
        first_users, first = self.done[0]
        return first + self.each * (wanted - first_users) + self.last * wanted / self.users

    @property
    def each(self) -> float:
        """Seconds of a user after the first block, by the median block; the last one is no full block."""
        pairs = list(pairwise(self.done))
        full = pairs[:-1] or pairs
        return median((after[1] - before[1]) / (after[0] - before[0]) for before, after in full)

    @property
    def last(self) -> float:
        """Seconds of putting the table together."""
        return self.seconds - self.done[-1][1]

    def told(self) -> str:
        """The parts, in a line."""
        parts = f"first block {self.done[0][1]:.2f}, then {self.each * 1e3:.3f} ms a user, table {self.last:.2f}"
        return f"{self.users:,} users {self.seconds:.1f} s ({parts})"


def movielens(clock: Callable[[], float]) -> tuple[float, int]:
    """Seconds of the fit and of all users, and how many there are."""
    data = MovieLens.read()
    ids = data.items["item_id"].to_list()
    vectors = random_vectors(len(ids))
    start = clock()
    ratings = Ratings.of(data.core, ids, (), is_sampled=False)
    settings = RecommendationSettings()
    fit = fit_expert(settings.expert, data.core, data.samples, ids, vectors["text"], LIKE_ABOVE, ExpertSettings(), SEED)
    recommend(fit, ratings, vectors, settings)
    return clock() - start, len(ratings.visits)


def made_up(users: int, clock: Callable[[], float]) -> Taken:
    """What so many users took; the fit is on `FITTED` of them and is not timed."""
    rng = np.random.default_rng(SEED)
    counts = rng.poisson(EACH, users).clip(5)
    odds = 1 / np.arange(1, ITEMS + 1) ** 0.8
    items = rng.choice(ITEMS, counts.sum(), p=odds / odds.sum())
    core = pl.DataFrame(
        {
            "user_id": pl.Series(np.repeat(np.arange(users), counts)).cast(pl.String),
            "item_id": pl.Series(items).cast(pl.String),
            "rating": pl.Series(rng.integers(1, 6, counts.sum()), dtype=pl.Float32),
            "timestamp": pl.Series(np.arange(counts.sum()), dtype=pl.Int64),
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    fitted = core.filter(pl.col("user_id").cast(pl.Int64) < FITTED)
    place = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("history_length")
    samples = fitted.with_columns(
        place,
        pl.lit("train").alias("split"),
        (pl.col("rating") > LIKE_ABOVE).cast(pl.Int8).alias("label"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("sample_id"),
    ).filter(pl.col("history_length") >= 3)
    ids = [str(number) for number in range(ITEMS)]
    vectors, settings = random_vectors(ITEMS), RecommendationSettings()
    fit = fit_expert(settings.expert, fitted, samples, ids, vectors["text"], LIKE_ABOVE, ExpertSettings(), SEED)
    ratings = Ratings.of(core, ids, (), is_sampled=False)
    done: list[tuple[int, float]] = []
    start = clock()
    batch = batch_of(fit, ratings, vectors, settings)
    batch.run(ratings.visits, None, lambda count, total: done.append((count, clock() - start)))
    return Taken(len(ratings.visits), done, clock() - start)


def random_vectors(items: int) -> dict[str, np.ndarray]:
    """Unit vectors of each kind."""
    rng = np.random.default_rng(SEED)
    made = {kind: rng.normal(size=(items, width)).astype(np.float32) for kind, width in WIDTHS.items()}
    return {kind: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for kind, vectors in made.items()}


def recommend(
    fit: ExpertFit, ratings: Ratings, vectors: dict[str, np.ndarray], settings: RecommendationSettings
) -> pl.DataFrame:
    """The table of all users."""
    batch = batch_of(fit, ratings, vectors, settings)
    return batch.run(ratings.visits, None, lambda done, total: None).table


def batch_of(
    fit: ExpertFit, ratings: Ratings, vectors: dict[str, np.ndarray], settings: RecommendationSettings
) -> Batch:
    """All that users are recommended by."""
    catalogue = Catalogue(fit.item_ids, vectors["mixture"], vectors["text"], vectors["collaborative"], fit.counts() > 0)
    index, trees = build_index(vectors["mixture"]), ExpertSettings().trees
    one = Recommender(catalogue, fit, fit.factorisation, ratings, index, settings, LIKE_ABOVE, trees, SEED)
    retriever = Retriever(by_vectors(vectors["mixture"]), RetrievalSettings(history_length=5), alpha=0.5)
    return Batch(one, retriever, Maker(settings.expert, ""), "", [""] * len(fit.item_ids))


if __name__ == "__main__":
    main()
