"""Made-up ratings of the size and shape of MovieLens, in the layout of MovieLens-1M (`::`, latin-1).

    python benchmarks/generate.py 1m FOLDER      1,000,209 ratings of 3,706 of 3,883 items by 6,040 users
    python benchmarks/generate.py 25m FOLDER     25,000,095 ratings of 59,047 of 62,423 items by 162,541 users
    python benchmarks/generate.py 5 FOLDER       five times MovieLens-1M; any factor from 0.01 to 1000

Counts, span of time and the fall of activity and popularity are about those of the originals; who rates what is
drawn. Equal arguments give equal files. Users are written block by block, so memory hardly grows with the ratings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]

RATINGS, MOVIES, USERS = ("ratings.dat", "movies.dat", "users.dat")
LEAST = 20  # ratings of a user, in every MovieLens
MOST = 0.7  # largest share of the rated items that a user rates
BLOCK = 1_000_000  # ratings made at a time
CELLS = 10_000_000  # users times items raced at a time
RATINGS_A_SITTING = 80
SECONDS_A_RATING, TICK = 6, 12  # two ratings share a moment on average, about as in MovieLens-1M

AGES = (1, 18, 25, 35, 45, 50, 56)
GENRES = ("Action", "Adventure", "Children's", "Comedy", "Crime", "Drama", "Film-Noir", "Horror", "Sci-Fi", "War")
FIRST_WORDS = ("Last", "Silent", "Golden", "Broken", "Little", "Midnight", "Étranger", "Crimson", "Distant", "Wild")
SECOND_WORDS = ("River", "Garden", "Letter", "Island", "Doctor", "Café", "Winter", "Train", "Father", "Señor", "Night")


@dataclass(frozen=True)
class Shape:
    """How much there is, and how it falls off.

    A curve has the number of ratings of the user or item at a share of the ranking: 0 is the first of all.
    """

    ratings: int
    users: int
    items: int
    rated_items: int
    start: int
    end: int
    activity: Curve
    popularity: Curve

    def scaled(self, factor: float) -> Shape:
        """`factor` times as many ratings and users; items grow more slowly, as from MovieLens-1M to 25M."""
        growth = factor ** (0.86 if factor > 1 else 0.5)
        return replace(
            self,
            ratings=round(self.ratings * factor),
            users=round(self.users * factor),
            items=round(self.items * growth),
            rated_items=round(self.rated_items * growth),
        )


# Totals, quartiles and largest counts are the originals'; those at the shares 0.01 and 0.1 are chosen to fit the means.
MOVIELENS_1M = Shape(
    ratings=1_000_209,
    users=6_040,
    items=3_883,
    rated_items=3_706,
    start=956_703_932,
    end=1_046_454_590,
    activity=((0, 2314), (0.1, 400), (0.25, 208), (0.5, 96), (0.75, 44), (1, LEAST)),
    popularity=((0, 3428), (0.01, 2000), (0.1, 730), (0.25, 350), (0.5, 123), (0.75, 33), (1, 1)),
)
MOVIELENS_25M = Shape(
    ratings=25_000_095,
    users=162_541,
    items=62_423,
    rated_items=59_047,
    start=789_652_009,
    end=1_574_327_703,
    activity=((0, 32_202), (0.01, 1200), (0.1, 350), (0.25, 162), (0.5, 71), (0.75, 36), (1, LEAST)),
    popularity=((0, 81_491), (0.01, 12_000), (0.1, 500), (0.25, 36), (0.5, 6), (0.75, 2), (1, 1)),
)


def shape_of(size: str) -> Shape:
    """The shape that `1m`, `25m` or a factor stands for. Raises ValueError."""
    known = {"1m": MOVIELENS_1M, "25m": MOVIELENS_25M}
    if size in known:
        return known[size]
    factor = float(size)
    if not 0.01 <= factor <= 1000:
        raise ValueError(f"a factor must lie between 0.01 and 1000, {size} does not")
    return MOVIELENS_1M.scaled(factor)


def write_dataset(shape: Shape, folder: Path, seed: int = 2025) -> None:
    """Write the three files into `folder`."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    # some ids are left out, as in the original: an id is not a place
    item_ids = np.sort(rng.choice(shape.items * 51 // 50, shape.items, replace=False)) + 1
    write_ratings(shape, rng.permutation(item_ids)[: shape.rated_items], folder / RATINGS, rng)
    write_movies(item_ids, folder / MOVIES, rng)
    write_users(shape.users, folder / USERS, rng)


def write_ratings(shape: Shape, item_ids: Ints, path: Path, rng: np.random.Generator) -> None:
    """Write all ratings, user by user; `item_ids` has the most popular item first."""
    counts = activity(shape, rng)
    weights = along(shape.popularity, len(item_ids))
    qualities = rng.normal(3.6, 0.5, len(item_ids))
    given = given_items(counts, len(item_ids), rng)
    with path.open("wb") as stream:
        for low, high in blocks(counts):
            mine = slice(*np.searchsorted(given[0], [low, high]))
            block = (given[0][mine] - low, given[1][mine])
            users, items = choose_items(counts[low:high], weights, block, rng)
            values = choose_ratings(users, qualities[items], rng)
            times = choose_times(users, counts[low:high], shape, rng)
            columns = {"user": users + low + 1, "item": item_ids[items], "rating": values, "time": times}
            stream.write(as_lines(pl.DataFrame(columns)).encode())


def along(curve: Curve, n: int) -> Floats:
    """The values of `curve` at ranks 1 to n; between its points a power law holds."""
    shares, values = np.array(curve).T
    logs = np.interp(np.log(np.arange(1, n + 1)), np.log(1 + shares * (n - 1)), np.log(values))
    return np.asarray(np.exp(logs), np.float64)


def activity(shape: Shape, rng: np.random.Generator) -> Ints:
    """Ratings of each user: (users,), with the sum that the shape says. Raises ValueError where none has it."""
    above = along(shape.activity, shape.users) - LEAST
    room, wanted = shape.rated_items * MOST - LEAST, shape.ratings - LEAST * shape.users
    low, high = 0.0, 1000.0
    for _ in range(60):  # how far the curve must be stretched
        stretch = (low + high) / 2
        if np.minimum(above * stretch, room).sum() < wanted:
            low = stretch
        else:
            high = stretch
    more = np.minimum(above * high, room)
    if abs(more.sum() - wanted) > 1:
        raise ValueError(f"{shape.users} users cannot have {shape.ratings} ratings of {shape.rated_items} items")
    ends = np.rint(np.cumsum(rng.permutation(more))).astype(np.int64)  # rounded so that the sum stays
    return LEAST + np.diff(ends, prepend=0)


def given_items(counts: Ints, items: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(users in order, items): one user for every item, so that each is rated at least once."""
    places = rng.choice(int(counts.sum()), items, replace=False)
    users = np.searchsorted(np.cumsum(counts), places, side="right")
    order = np.argsort(users, kind="stable")
    return users[order], order


def blocks(counts: Ints) -> list[tuple[int, int]]:
    """Runs of users with about BLOCK ratings together."""
    number = (np.cumsum(counts) - 1) // BLOCK
    bounds = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), len(counts)]
    return list(pairwise(bounds))


def choose_items(
    counts: Ints, weights: Floats, given: tuple[Ints, Ints], rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """(users in order, items): for each user `counts` distinct items, drawn one after the other by weight.

    Twice as many as wanted are drawn with repetition, and the first distinct ones count. The few users who have too
    few then are raced, which gives the same law (an item's time is exponential with its weight as the rate) but
    looks at every item.
    """
    draws = np.repeat(np.arange(len(counts)), 2 * counts)
    bounds = np.cumsum(weights) / weights.sum()
    picks = np.searchsorted(bounds, rng.random(len(draws))).clip(max=len(weights) - 1)
    users, items = np.concatenate([given[0], draws]), np.concatenate([given[1], picks])
    first = np.sort(np.unique(users * len(weights) + items, return_index=True)[1])
    users, items = users[first], items[first]
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    enough = np.bincount(users, minlength=len(counts)) >= counts
    kept = (places_within(users) < counts[users]) & enough[users]
    raced_users, raced_items = race(np.flatnonzero(~enough), counts, weights, given, rng)
    users, items = np.concatenate([users[kept], raced_users]), np.concatenate([items[kept], raced_items])
    order = np.argsort(users, kind="stable")
    return users[order], items[order]


def race(
    users: Ints, counts: Ints, weights: Floats, given: tuple[Ints, Ints], rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """(users, items): for each of `users` the items with the smallest times, given ones first."""
    width = max(1, CELLS // len(weights))
    found = [(users[:0], users[:0])]
    for few in (users[i : i + width] for i in range(0, len(users), width)):
        times = rng.standard_exponential((len(few), len(weights))) / weights
        mine = np.isin(given[0], few)
        times[np.searchsorted(few, given[0][mine]), given[1][mine]] = -1
        ranked = np.argsort(times, axis=1)
        row, rank = np.nonzero(np.arange(len(weights)) < counts[few, None])
        found.append((few[row], ranked[row, rank]))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def places_within(groups: Ints) -> Ints:
    """Place of each row within its group; rows of a group follow one another."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def choose_ratings(users: Ints, qualities: Floats, rng: np.random.Generator) -> Ints:
    """Ratings from 1 to 5: the item's quality, the user's mood and chance."""
    moods = rng.normal(0, 0.4, int(users[-1]) + 1)
    return np.rint(qualities + moods[users] + rng.normal(0, 0.9, len(users))).clip(1, 5).astype(np.int64)


def choose_times(users: Ints, counts: Ints, shape: Shape, rng: np.random.Generator) -> Ints:
    """UTC seconds. A user comes at some time and rates most in the first sitting, the rest in later ones."""
    sittings = 1 + rng.poisson(counts / RATINGS_A_SITTING)
    firsts = np.cumsum(sittings) - sittings
    arrivals = rng.uniform(shape.start, shape.end - 0.02 * (shape.end - shape.start), len(counts))
    later = rng.random(int(sittings.sum())) ** 4
    later[firsts] = 0
    begins = np.repeat(arrivals, sittings) + later * np.repeat(shape.end - arrivals, sittings)
    mine = firsts[users] + (sittings[users] * rng.random(len(users)) ** 2).astype(np.int64)
    lengths = np.bincount(mine, minlength=len(begins)) * SECONDS_A_RATING // TICK
    ticks = rng.integers(0, 1 + lengths[mine])
    return (begins[mine].astype(np.int64) + TICK * ticks).clip(max=shape.end)


def write_movies(item_ids: Ints, path: Path, rng: np.random.Generator) -> None:
    """Write titles, some with an article behind, and one or two genres."""
    n = len(item_ids)
    genres = [*GENRES, *("|".join(pair) for pair in combinations(GENRES, 2))]
    columns = {
        "id": pl.Series(item_ids),
        "first": drawn(FIRST_WORDS, n, rng),
        "second": drawn(SECOND_WORDS, n, rng),
        "article": drawn((", The", "", "", ""), n, rng),
        "year": pl.Series(rng.integers(1930, 2001, n)),
        "genres": drawn(genres, n, rng),
    }
    title = pl.format("{} {} {}{} ({})", "first", "second", "id", "article", "year").alias("title")
    path.write_bytes(as_lines(pl.DataFrame(columns).select("id", title, "genres")).encode("latin-1"))


def write_users(n: int, path: Path, rng: np.random.Generator) -> None:
    """Write gender, age group, occupation and zip code."""
    columns = {
        "id": pl.int_range(1, n + 1, eager=True),
        "gender": drawn(("F", "M", "M"), n, rng),
        "age": pl.Series(rng.choice(AGES, n)),
        "occupation": pl.Series(rng.integers(0, 21, n)),
        "zip": pl.Series(rng.integers(0, 100_000, n)).cast(pl.String).str.zfill(5),
    }
    path.write_bytes(as_lines(pl.DataFrame(columns)).encode("latin-1"))


def drawn(words: Sequence[str], n: int, rng: np.random.Generator) -> pl.Series:
    """`n` of `words`."""
    return pl.Series(words)[rng.integers(0, len(words), n).astype(np.uint32)]


def as_lines(rows: pl.DataFrame) -> str:
    """The rows as text, `::` between the columns."""
    return rows.select(pl.concat_str(pl.all(), separator="::")).write_csv(include_header=False, quote_style="never")


def main() -> None:
    """Write the dataset that the command line asks for."""
    parser = argparse.ArgumentParser(description="Write made-up ratings of the shape of MovieLens.")
    parser.add_argument("size", help="1m, 25m or a factor of MovieLens-1M")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=2025)
    asked = parser.parse_args()
    try:
        write_dataset(shape_of(asked.size), asked.folder, asked.seed)
    except ValueError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
