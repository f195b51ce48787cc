"""How time and memory grow with the ratings, from raw files over tables and k-core to samples.

    python benchmarks/scale.py                  MovieLens-1M and 25M in shape, and 5M between them
    python benchmarks/scale.py --sizes 1m,5m    only these; then nothing is judged

Every run is a process of its own that reads and writes the tables of the lake as the pipeline does. Of RUNS the fastest
counts, and the largest memory. The files are made up by generate.py and need 2 GB of disk at 25M. Prints one JSON
line a figure; the time and memory of every size go to stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

NAME, PROTOCOL = "movielens-1m", "five_core"
RUNS = 2
MAX_SECONDS, MAX_GB = 600, 12  # at 25M
GENERATOR = Path(__file__).with_name("generate.py")


class Run(TypedDict):
    """What one process found."""

    ratings: int
    seconds: dict[str, float]
    gigabytes: float


def main() -> None:
    """Measure the sizes and print the figures."""
    parser = argparse.ArgumentParser(description="Measure how time and memory grow with the ratings.")
    parser.add_argument("--sizes", default="1m,5m,25m", help="comma-separated: 1m, 25m, or another number of millions")
    parser.add_argument("--scratch", type=Path, help="folder for the files; default: the system's")
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    asked = parser.parse_args()
    if asked.lake:
        print(json.dumps(measure(asked.lake)))
        return
    sizes = asked.sizes.split(",")
    runs = [best_run(size, asked.scratch) for size in sizes]
    report(max(runs, key=lambda run: run["ratings"]), judged="25m" in sizes)
    if len(runs) > 1:
        exponent = growth(runs)
        row("growth of time with ratings", "exponent", exponent, 1, "linear", 0.9)


def best_run(size: str, scratch: Path | None) -> Run:
    """The fastest of RUNS runs on the same made-up files."""
    with TemporaryDirectory(dir=scratch) as lake:
        raw = Path(lake) / "raw" / NAME
        known = size if size in ("1m", "25m") else size.removesuffix("m")
        subprocess.run([sys.executable, str(GENERATOR), known, str(raw)], check=True)
        command = [sys.executable, __file__, "--lake", lake]
        found = [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout for _ in range(RUNS)]
    runs: list[Run] = [json.loads(output) for output in found]
    best = min(runs, key=seconds)
    best["gigabytes"] = max(run["gigabytes"] for run in runs)
    steps = ", ".join(f"{name} {taken:.2f}" for name, taken in best["seconds"].items())
    print(f"{best['ratings']:,} ratings: {seconds(best):.1f} s ({steps}), {best['gigabytes']:.2f} GB", file=sys.stderr)
    return best


def measure(lake: Path) -> Run:
    """Make the tables of `lake` one after the other."""
    # imported here: what the parent process has in memory would count as its children's
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
    from rallrec_pipeline.datasets.kcore import core_of
    from rallrec_pipeline.datasets.readers import read_interactions, read_items, read_raw, read_users
    from rallrec_pipeline.lake import tables
    from rallrec_pipeline.lake.parquet import read_table, write_table

    spec = get_dataset(NAME, lake, PROTOCOL)

    def core() -> None:
        kept = core_of(read_table(tables.INTERACTIONS, lake, NAME), read_table(tables.ITEMS, lake, NAME), spec.protocol)
        write_table(in_protocol_order(kept, spec.protocol, 0), tables.CORE_INTERACTIONS, lake, NAME)

    def samples() -> None:
        kept = read_table(tables.CORE_INTERACTIONS, lake, NAME)
        write_table(make_samples(kept, spec.protocol, spec.label), tables.SAMPLES, lake, NAME)

    steps: dict[str, Callable[[], object]] = {
        "interactions": lambda: write_table(read_interactions(spec, lake).table, tables.INTERACTIONS, lake, NAME),
        "items": lambda: write_table(read_items(spec, lake).table, tables.ITEMS, lake, NAME),
        "users": lambda: write_table(read_users(spec, lake).table, tables.USERS, lake, NAME),
        "rejected rows": lambda: write_table(read_raw(spec, lake).rejected, tables.REJECTED_ROWS, lake, NAME),
        "core": core,
        "samples": samples,
    }
    taken = {name: timed(step) for name, step in steps.items()}
    ratings = read_table(tables.INTERACTIONS, lake, NAME).height
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"ratings": ratings, "seconds": taken, "gigabytes": peak}


def timed(step: Callable[[], object]) -> float:
    """Seconds that `step` takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def seconds(run: Run) -> float:
    """All steps together."""
    return sum(run["seconds"].values())


def growth(runs: list[Run]) -> float:
    """The exponent of time over ratings: the slope of a straight line through the logarithms."""
    x = [math.log(run["ratings"]) for run in runs]
    y = [math.log(seconds(run)) for run in runs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def report(run: Run, judged: bool) -> None:
    """Print time and memory of a run; limits hold at 25M only."""
    size = f"{run['ratings'] / 1e6:.0f}M ratings"
    limits = (MAX_SECONDS, MAX_GB) if judged else (None, None)
    row(f"raw files to tables, core and samples, {size}", "s", seconds(run), limits[0], "limit", 1)
    row(f"peak memory of that, {size}", "GB", run["gigabytes"], limits[1], "limit", 1)


def row(name: str, unit: str, ours: float, limit: float | None, limit_name: str, target: float) -> None:
    """Print one figure; without a limit nothing is judged."""
    found = {
        "name": name,
        "unit": unit,
        "ours": round(ours, 3),
        "peer": limit,
        "peer_name": limit_name if limit else "",
    }
    ratio = None if limit is None else round(limit / ours, 3)
    print(json.dumps(found | {"ratio": ratio, "target": target if limit else None}), flush=True)


if __name__ == "__main__":
    main()
