"""The home of finished rows (SQLite) against a folder of Parquet parts, as it was before.

    python benchmarks/memo.py                   a million scores, 100,000 vectors of 384, 10,000 of 4,096
    python benchmarks/memo.py --share 0.01      a hundredth of that

A part holds the CHUNK rows that are finished together, as a run leaves them; in the notes are the same figures for
parts that were joined. Looking up reads whole rows of random keys; adding stores CHUNK rows on disk, beside all that
are there; removing takes a tenth of the rows out and gives their room back. Prints one JSON line a figure.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from rows import print_row

from rallrec_pipeline.lake.files import atomic_path
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import SCORES, VECTORS, Kind

CHUNK, JOINED, SEED = 256, 65_536, 2026
ASKED = (1_000, 100_000, 1_000_000)
ADDED = 10  # chunks
PEER = f"Parquet parts of {CHUNK} rows"
TIME, RUN = "2026-01-01T00:00:00+00:00", "0" * 36


class Parts:
    """Rows of one kind as Parquet parts, which are only ever added."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder, self.schema = folder, kind.schema
        folder.mkdir()

    def fill(self, rows: pl.DataFrame, size: int) -> None:
        """Write parts without waiting for the disk."""
        for number, part in enumerate(rows.iter_slices(size)):
            part.write_parquet(self.folder / f"part-{number:06d}.parquet")

    def find(self, keys: list[str]) -> pl.DataFrame:
        """One row per key."""
        wanted = pl.LazyFrame({"key": keys})
        stored = pl.scan_parquet(sorted(self.folder.iterdir(), reverse=True), schema=self.schema, glob=False)
        return stored.join(wanted, on="key", how="semi").collect().unique("key")

    def add(self, rows: pl.DataFrame) -> None:
        """One more part."""
        with atomic_path(self.folder / f"part-{len(list(self.folder.iterdir())):06d}.parquet") as temporary:
            rows.write_parquet(temporary)

    def keep(self, keys: list[str]) -> None:
        """Write what stays of all parts as large ones, then delete the old ones."""
        old = sorted(self.folder.iterdir())
        there = [pl.read_parquet(part, columns=["key"]) for part in old]
        stays, start, pending = pl.concat(there)["key"].is_in(keys), 0, pl.DataFrame(schema=self.schema)
        for part, narrow in zip(old, there, strict=True):
            pending = pl.concat([pending, pl.read_parquet(part).filter(stays.slice(start, narrow.height))])
            start += narrow.height
            if pending.height >= JOINED or part == old[-1]:
                with atomic_path(self.folder / f"whole-{part.name}") as temporary:
                    pending.write_parquet(temporary)
                pending = pending.clear()
        for part in old:
            part.unlink()


def main() -> None:
    """Measure all kinds and print the figures."""
    parser = argparse.ArgumentParser(description="Finished rows in SQLite against Parquet parts.")
    parser.add_argument("--share", type=float, default=1.0)
    share = parser.parse_args().share
    compare("scores", SCORES, round(1_000_000 * share), 0)
    compare("vectors of 384", VECTORS, round(100_000 * share), 384)
    compare("vectors of 4,096", VECTORS, round(10_000 * share), 4096)


def compare(what: str, kind: Kind, count: int, width: int) -> None:
    """All figures of one kind of row."""
    rng = np.random.default_rng(SEED)
    rows, more = made_up(kind, 0, count, width), made_up(kind, count, ADDED * CHUNK, width)
    keys = rng.permutation(rows["key"].to_numpy()).tolist()
    with TemporaryDirectory() as folder:
        memo = Memo(Path(folder), kind)
        parts, joined = Parts(Path(folder) / "parts", kind), Parts(Path(folder) / "joined", kind)
        homes: dict[str, Memo | Parts] = {"ours": memo, "peer": parts, "joined": joined}
        for chunk in rows.iter_slices(JOINED):
            memo.add(chunk)
        parts.fill(rows, CHUNK)
        joined.fill(rows, JOINED)
        for asked in sorted({min(n, count) for n in ASKED}):
            found = {name: seconds(partial(home.find, keys[:asked])) for name, home in homes.items()}
            report(f"{asked:,} of {count:,} {what} looked up", "CPU s", found)
        added = {name: seconds(partial(add_all, home, more)) / ADDED for name, home in homes.items()}
        report(f"{CHUNK} rows added to {count:,} {what}", "CPU s", added)
        report(f"{count:,} {what} on disk", "bytes", sizes(memo, parts.folder, joined.folder))
        kept = [*keys[count // 10 :], *more["key"]]
        gone = {"ours": seconds(partial(memo.prune, kept, "9999"))}
        gone |= {name: seconds(partial(home.keep, kept)) for name, home in (("peer", parts), ("joined", joined))}
        report(f"a tenth of {count:,} {what} removed", "CPU s", gone)
        report(f"{count:,} {what} on disk, without a tenth", "bytes", sizes(memo, parts.folder, joined.folder))
        assert memo.known(kept[:1000]) == set(kept[:1000]) and not memo.known(keys[: count // 10][:1000])


def add_all(home: Memo | Parts, rows: pl.DataFrame) -> None:
    """Add rows chunk by chunk."""
    for chunk in rows.iter_slices(CHUNK):
        home.add(chunk)


def made_up(kind: Kind, first: int, count: int, width: int) -> pl.DataFrame:
    """Rows with random content."""
    rng = np.random.default_rng([SEED, first])
    keys = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(first, first + count)]
    own: dict[str, Any]
    if kind is SCORES:
        yes = rng.random(count)
        own = {"probabilities": np.stack([yes, 1 - yes], axis=1).tolist(), "seconds": rng.random(count)}
    else:
        own = {"vector": list(random_vectors(rng, count, width)), "data_version": keys}
    return pl.DataFrame({"key": keys, **own, "run_id": [RUN] * count, "created_at": [TIME] * count}, kind.schema)


def random_vectors(rng: np.random.Generator, count: int, width: int) -> Iterator[bytes]:
    """Binary vectors, made one by one."""
    for _ in range(count):
        yield rng.standard_normal(width, np.float32).tobytes()


def seconds(work: Callable[[], object]) -> float:
    """CPU time of `work`, which other work on the machine changes little."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def sizes(memo: Memo, *folders: Path) -> dict[str, float]:
    """Bytes on disk."""
    parts = (sum(part.stat().st_size for part in folder.iterdir()) for folder in folders)
    return dict(zip(("ours", "peer", "joined"), (memo.path.stat().st_size, *parts), strict=True))


def report(job: str, unit: str, figures: dict[str, float]) -> None:
    """One comparison; less is better."""
    notes = {"peer with joined parts": float(f"{figures['joined']:.4g}")}
    print_row(job, unit, figures["ours"], figures["peer"], PEER, None, faster_is_less=True, notes=notes)


if __name__ == "__main__":
    main()
