"""Raw files to samples with histories: ours against the same job row by row with pandas' `iterrows`.

Reads MovieLens-100K from the lake or the folder RALLREC_ML100K; without either it makes raw files of the same shape
with a seeded generator. Both sides must give the same samples and histories. Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from rallrec_pipeline.datasets.atomic import move_article
from rallrec_pipeline.datasets.catalog import DatasetSpec, get_dataset
from rallrec_pipeline.datasets.histories import make_samples
from rallrec_pipeline.datasets.kcore import k_core
from rallrec_pipeline.datasets.readers import raw_folder, read_raw
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.settings import lake_root

NAME, TARGET = "movielens-100k", 30.0
USERS, ITEMS, RATINGS = 943, 1682, 100_000
Sample = tuple[str, str, str, float, int, int, int]
Histories = dict[str, list[str]]


def main() -> None:
    """Time both sides on the same files, compare what they give, print the row."""
    with TemporaryDirectory() as scratch:
        lake = Path(scratch)
        spec = get_dataset(NAME, lake)
        print(f"data: {put_raw_files(spec, raw_folder(lake, NAME))}", file=sys.stderr)
        ours, (samples, histories) = best_of(5, lambda: with_tables(spec, lake))
        peer, (peer_samples, peer_histories) = best_of(2, lambda: row_by_row(spec, raw_folder(lake, NAME)))
    columns = ("user_id", "item_id", "split", "rating", "label", "timestamp", "history_length")
    if samples.select(columns).rows() != peer_samples or as_lists(histories) != peer_histories:
        raise SystemExit("the two sides do not give the same samples: the comparison is void")
    row = {
        "name": "raw files to samples",
        "unit": "s",
        "ours": round(ours, 4),
        "peer": round(peer, 3),
        "peer_name": "pandas iterrows, row by row",
        "ratio": round(peer / ours, 1),
        "target": TARGET,
    }
    print(json.dumps(row))


def best_of(times: int, job: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of the fastest of `times` runs, its result)."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = job()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def with_tables(spec: DatasetSpec, lake: Path) -> tuple[Any, UserSequences]:
    """Our side: (the table `samples`, all histories)."""
    rules = spec.protocol
    raw = read_raw(spec, lake)
    core = k_core(raw.interactions, rules.user_core, rules.item_core)
    item_ids = raw.items["item_id"].to_list()
    return make_samples(core, rules, spec.label), UserSequences.from_interactions(core, item_ids)


def row_by_row(spec: DatasetSpec, folder: Path) -> tuple[list[Sample], Histories]:
    """The peer: the same rules as plain loops over `iterrows`."""
    names = [file.name for file in spec.source.files]
    ratings, items, users = (pd.read_csv(folder / name, sep="\t", dtype=str, quoting=3) for name in names)
    items = loop_over_catalogue(items, "item_id:token")
    loop_over_catalogue(users, "user_id:token")
    kept = loop_over_ratings(ratings, set(items["item_id:token"]), spec)
    core = loop_to_core(kept, spec.protocol.user_core, spec.protocol.item_core)
    order = ["timestamp", "user_length", "user", "item_length", "item"]
    core["user_length"], core["item_length"] = core["user"].str.len(), core["item"].str.len()
    return loop_to_samples(core.sort_values(order), spec)


def loop_over_catalogue(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows with a new, non-empty id; titles, years and genres as our reader cleans them."""
    kept, seen = [], set()
    for _, row in rows.iterrows():
        values = {name: str(value).strip() for name, value in row.items()}
        if values[key] and values[key] not in seen:
            seen.add(values[key])
            if "movie_title:token_seq" in values:
                values["movie_title:token_seq"] = move_article(values["movie_title:token_seq"])
                values["class:token_seq"] = ", ".join(values["class:token_seq"].split())
                if not values["release_year:token"].isdigit():
                    values["release_year:token"] = ""
            kept.append(values)
    return pd.DataFrame(kept)


def loop_over_ratings(rows: pd.DataFrame, known: set[str], spec: DatasetSpec) -> pd.DataFrame:
    """The good ratings; of several by one user for one item the latest."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for _, row in rows.iterrows():
        user, item = row["user_id:token"].strip(), row["item_id:token"].strip()
        try:
            rating, timestamp = float(row["rating:float"]), float(row["timestamp:float"])
        except ValueError:
            continue
        good = user and item in known and rating in spec.label.scale and 0 <= timestamp <= 2**53
        old = latest.get((user, item))
        if good and (old is None or old["timestamp"] <= timestamp):
            latest[user, item] = {"user": user, "item": item, "rating": rating, "timestamp": int(timestamp)}
    return pd.DataFrame(list(latest.values()))


def loop_to_core(rows: pd.DataFrame, user_core: int, item_core: int) -> pd.DataFrame:
    """Rounds of counting and dropping until nothing changes."""
    while True:
        users: Counter[str] = Counter()
        items: Counter[str] = Counter()
        for _, row in rows.iterrows():
            users[row["user"]] += 1
            items[row["item"]] += 1
        good = [users[row["user"]] >= user_core and items[row["item"]] >= item_core for _, row in rows.iterrows()]
        if all(good):
            return rows
        rows = rows[good].copy()


def loop_to_samples(core: pd.DataFrame, spec: DatasetSpec) -> tuple[list[Sample], Histories]:
    """One sample per rating with enough earlier ones, then the split by place."""
    histories: Histories = defaultdict(list)
    found = []
    for _, row in core.iterrows():
        history = histories[row["user"]]
        if len(history) >= spec.protocol.min_history:
            label = int(row["rating"] > spec.label.like_above)
            found.append((row["user"], row["item"], row["rating"], label, row["timestamp"], len(history)))
        history.append(row["item"])
    samples = []
    for number, (user, item, *rest) in enumerate(found):
        split = "train" if number < len(found) * 8 // 10 else "valid" if number < len(found) * 9 // 10 else "test"
        samples.append((user, item, split, *rest))
    return samples, dict(histories)


def as_lists(sequences: UserSequences) -> Histories:
    """Every user's item ids in order."""
    bounds = sequences.offsets
    return {
        user: [sequences.item_ids[item] for item in sequences.items[bounds[code] : bounds[code + 1]]]
        for code, user in enumerate(sequences.user_ids)
    }


def put_raw_files(spec: DatasetSpec, target: Path) -> str:
    """The real files where they can be found, else generated ones; returns which."""
    target.mkdir(parents=True)
    names = [file.name for file in spec.source.files]
    for place in (os.environ.get("RALLREC_ML100K"), lake_root() / "raw" / NAME):
        if place and all((Path(place) / name).exists() for name in names):
            for name in names:
                shutil.copy(Path(place) / name, target)
            return "MovieLens-100K"
    generate(target, *names)
    return "generated, in the shape of MovieLens-100K"


def generate(folder: Path, interactions: str, items: str, users: str, seed: int = 2025) -> None:
    """Raw files with the counts of MovieLens-100K, and popularity and activity that fall off like its own."""
    rng = np.random.default_rng(seed)
    popular, active = rng.permutation(ITEMS), rng.permutation(USERS)
    weights = np.outer(np.exp(-active / 250), np.exp(-popular / 260)).ravel()
    pairs = rng.choice(USERS * ITEMS, RATINGS, replace=False, p=weights / weights.sum())
    values = rng.choice(5, RATINGS, p=[0.06, 0.11, 0.27, 0.35, 0.21]) + 1
    # a user rates in one sitting, many ratings a second, as in the original
    times = 874_724_710 + rng.integers(0, 18_000_000, USERS)[pairs // ITEMS] + rng.integers(0, 3_600, RATINGS)
    rows = zip(pairs // ITEMS + 1, pairs % ITEMS + 1, values, times, strict=True)
    write(folder / interactions, "user_id:token\titem_id:token\trating:float\ttimestamp:float", rows)
    genres = ("Drama", "Comedy", "Action", "Thriller", "War")
    films = [
        (i, f"Film {i}" + ", The" * (i % 4 == 0), 1930 + i % 68, " ".join(genres[i % 5 : i % 5 + 2]))
        for i in range(1, ITEMS + 1)
    ]
    write(folder / items, "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", films)
    people = [(u, 18 + u % 50, "MF"[u % 2], "writer", f"{u:05d}") for u in range(1, USERS + 1)]
    write(folder / users, "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token", people)


def write(path: Path, header: str, rows: Any) -> None:
    """Tab-separated lines."""
    path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows), ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
