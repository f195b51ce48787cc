"""Raw files to samples with histories: ours against the same job row by row with pandas' `iterrows`.

Takes MovieLens-1M from the lake or the folder RALLREC_ML1M; without either, made-up files of its shape. Both sides do
the whole of it under the published protocol, whose k-core needs one round whatever the share of the users, and must
give the same samples and histories. Prints one JSON line. The peer takes minutes.

    python benchmarks/tables.py --share 0.1     on a tenth of the users only, in a tenth of the time
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
import polars as pl
from generate import MOVIELENS_1M, write_dataset
from rows import print_row

from rallrec_pipeline.datasets.catalog import get_dataset
from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.readers import raw_folder, read_raw
from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.settings import lake_root

NAME, PROTOCOL, TARGET = "movielens-1m", "published", 50.0
RUNS = 3  # of ours; the peer takes minutes and runs once
LATEST = 4_102_444_800  # the year 2100
COLUMNS = ("user_id", "item_id", "split", "rating", "label", "timestamp", "history_length")
Sample = tuple[str, str, str, float, int, int, int]
Histories = dict[str, list[str]]


def main() -> None:
    """Time both sides on the same files, compare what they give, print the row."""
    parser = argparse.ArgumentParser(description="Raw files to samples, against pandas row by row.")
    parser.add_argument("--share", type=float, default=1.0, help="share of the users")
    share = parser.parse_args().share
    with TemporaryDirectory() as scratch:
        lake = Path(scratch)
        spec = get_dataset(NAME, lake, PROTOCOL)
        data = put_raw_files(spec, raw_folder(lake, NAME), share)
        ours, (samples, histories) = best_of(RUNS, lambda: with_tables(spec, lake))
        peer, (peer_samples, peer_histories) = best_of(1, lambda: row_by_row(spec, raw_folder(lake, NAME)))
    print(f"data: {data}; {samples.height:,} samples", file=sys.stderr)
    if samples.select(COLUMNS).rows() != peer_samples or as_lists(histories) != peer_histories:
        raise SystemExit("the two sides do not give the same samples: the comparison is void")
    part = "" if share == 1 else f", {share:.0%} of the users"
    name, peer_name = (
        f"raw files to samples, shape of MovieLens-1M{part}",
        "pandas iterrows, row by row, the same files",
    )
    print_row(name, "s", ours, peer, peer_name, TARGET, faster_is_less=True)


def best_of(times: int, job: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of the fastest of `times` runs, its result)."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = job()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def with_tables(spec: DatasetSpec, lake: Path) -> tuple[pl.DataFrame, UserSequences]:
    """Our side: (the table `samples`, all histories)."""
    raw = read_raw(spec, lake)
    core = in_protocol_order(core_of(raw.interactions, raw.items, spec.protocol), spec.protocol, seed=0)
    samples = make_samples(core, spec.protocol, spec.label)
    return samples, UserSequences.from_interactions(core, raw.items["item_id"].to_list())


def row_by_row(spec: DatasetSpec, folder: Path) -> tuple[list[Sample], Histories]:
    """The peer: the same rules as plain loops over `iterrows`."""
    assert spec.users is not None
    ratings, items, users = (read_file(folder, table) for table in (spec.interactions, spec.items, spec.users))
    items = loop_over_catalogue(items, "MovieID")
    loop_over_catalogue(users, "UserID")
    kept = loop_over_ratings(ratings, set(items["MovieID"]), spec)
    core = loop_to_core(kept, spec.protocol.user_core, spec.protocol.item_core)
    order = ["timestamp", "user_length", "user", "item_length", "item"]
    core["user_length"], core["item_length"] = core["user"].str.len(), core["item"].str.len()
    return loop_to_samples(core.sort_values(order), spec)


def read_file(folder: Path, table: TableFile) -> pd.DataFrame:
    """The file as text."""
    return pd.read_csv(
        folder / table.file,
        sep=table.separator,
        engine="python",  # the other one knows separators of one character only
        names=list(table.header or ()),
        encoding=table.encoding,
        dtype=str,
        keep_default_na=False,
        quoting=3,
    )


def loop_over_catalogue(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows with a new, non-empty id; titles, years and genres as our reader cleans them."""
    kept, seen = [], set()
    for _, row in rows.iterrows():
        values = {str(name): str(value).strip() for name, value in row.items()}
        if values[key] and values[key] not in seen:
            seen.add(values[key])
            if "Title" in values:
                title, year = split_title(values["Title"])
                values |= {"Title": title, "Year": year, "Genres": ", ".join(values["Genres"].split("|"))}
            kept.append(values)
    return pd.DataFrame(kept)


def split_title(text: str) -> tuple[str, str]:
    """(title with the article in front, year)."""
    found = re.fullmatch(r"(.*?)\s*(?:\((\d{4})\))?", text)
    title, year = found.groups() if found else (text, None)
    return re.sub(r"^(.*), (The|A|An)$", r"\2 \1", title or ""), year or ""


def loop_over_ratings(rows: pd.DataFrame, known: set[str], spec: DatasetSpec) -> pd.DataFrame:
    """The good ratings; of several by one user for one item the latest."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for _, row in rows.iterrows():
        user, item = row["UserID"].strip(), row["MovieID"].strip()
        try:
            rating, timestamp = float(row["Rating"]), float(row["Timestamp"])
        except ValueError:
            continue
        good = user and item in known and rating in spec.label.scale and 0 <= timestamp <= LATEST
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
    train, valid = len(found) * 8 // 10, len(found) // 10
    samples = []
    for number, (user, item, *rest) in enumerate(found):
        split = "train" if number < train else "valid" if number < train + valid else "test"
        samples.append((user, item, split, *rest))
    return samples, dict(histories)


def as_lists(sequences: UserSequences) -> Histories:
    """Every user's item ids in order."""
    bounds = sequences.offsets
    return {
        user: [sequences.item_ids[item] for item in sequences.items[bounds[code] : bounds[code + 1]]]
        for code, user in enumerate(sequences.user_ids)
    }


def put_raw_files(spec: DatasetSpec, target: Path, share: float) -> str:
    """The real files where they can be found, else generated ones, of a share of the users; returns which."""
    target.mkdir(parents=True)
    names = [file.name for file in spec.files]
    data = "made up, in the shape of MovieLens-1M"
    for place in (os.environ.get("RALLREC_ML1M"), lake_root() / "raw" / NAME):
        if place and all((Path(place) / name).exists() for name in names):
            for name in names:
                shutil.copy(Path(place) / name, target)
            data = "MovieLens-1M"
            break
    else:
        write_dataset(MOVIELENS_1M, target)
    if share < 1:
        keep_users(spec, target, round(share * MOVIELENS_1M.users))
    return data


def keep_users(spec: DatasetSpec, folder: Path, n: int) -> None:
    """Leave the ratings and profiles of the first `n` users only; ids say nothing about who they are."""
    for table in (spec.interactions, spec.users):
        if table is not None:
            path = folder / table.file
            lines = path.read_text(encoding=table.encoding).splitlines(keepends=True)
            kept = [line for line in lines if int(line.split(table.separator)[0]) <= n]
            path.write_text("".join(kept), encoding=table.encoding)


if __name__ == "__main__":
    main()
