"""All experts on made-up ratings of the shape of MovieLens: how time and memory grow with the ratings.

    python benchmarks/experts.py                    1M and 2.5M; 25M is foretold from these two
    python benchmarks/experts.py --sizes 25m        the real thing: some minutes for the tables before it

Timed is `predict_experts`: every fit, and P(yes) of the whole test split and 512 validation rows. Tables and vectors
are made before. Text and collaborative vectors are random, which takes as long as real ones. Every size is a process of
its own. Prints one JSON line a figure; what each expert takes goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypedDict

NAME, PROTOCOL, SEED = "movielens-1m", "five_core", 2025
MAX_SECONDS, MAX_GB, WHOLE = 1200, 12, 25_000_095  # the limits hold at 25M
TEXT_WIDTH, GRAPH_WIDTH, K, VALID_ROWS, TUNED_ROWS = 384, 64, 5, 512, 1024
GENERATOR = Path(__file__).with_name("generate.py")


class Run(TypedDict):
    """What one process found."""

    ratings: int
    rows: int
    seconds: float
    gigabytes: float
    experts: dict[str, float]


def main() -> None:
    """Measure the sizes and print the figures."""
    parser = argparse.ArgumentParser(description="Measure how long all experts take.")
    parser.add_argument("--sizes", default="1m,2.5m", help="comma-separated: 1m, 25m, or another number of millions")
    parser.add_argument("--cpu", action="store_true", help="processor seconds, for a machine that is busy")
    parser.add_argument("--scratch", type=Path, help="folder for the files; default: the system's")
    parser.add_argument("--lake", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    asked = parser.parse_args()
    if asked.lake:
        print(json.dumps(measure(asked.lake, time.process_time if asked.cpu else time.perf_counter)))
        return
    runs = [one_run(size, asked.scratch, asked.cpu) for size in asked.sizes.split(",")]
    largest = max(runs, key=lambda run: run["ratings"])
    if largest["ratings"] > 0.9 * WHOLE:
        row("all experts, 25M ratings", "s", largest["seconds"], MAX_SECONDS)
        row("peak memory of that, 25M ratings", "GB", largest["gigabytes"], MAX_GB)
    elif len(runs) > 1:
        known = " and ".join(f"{run['ratings'] / 1e6:.1f}M" for run in runs)
        size = f"25M ratings, foretold from {known}"
        row(f"all experts, {size}", "s", foretold(runs, "seconds"), MAX_SECONDS)
        row(f"peak memory of that, {size}", "GB", foretold(runs, "gigabytes"), MAX_GB)


def one_run(size: str, scratch: Path | None, cpu: bool) -> Run:
    """One process on made-up files."""
    with TemporaryDirectory(dir=scratch) as lake:
        known = size if size in ("1m", "25m") else size.removesuffix("m")
        subprocess.run([sys.executable, str(GENERATOR), known, str(Path(lake) / "raw" / NAME)], check=True)
        command = [sys.executable, __file__, "--lake", lake, *(["--cpu"] if cpu else [])]
        run: Run = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    each = ", ".join(f"{name} {taken:.0f}" for name, taken in run["experts"].items())
    print(
        f"{run['ratings']:,} ratings, {run['rows']:,} rows: {run['seconds']:.1f} s ({each}), {run['gigabytes']:.2f} GB",
        file=sys.stderr,
    )
    return run


def measure(lake: Path, clock: Callable[[], float]) -> Run:
    """Make tables and vectors of `lake`, then time the experts."""
    import numpy as np
    import polars as pl

    from rallrec_pipeline.baselines.experts import Evidence, predict_experts
    from rallrec_pipeline.datasets.catalog import get_dataset
    from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples, training_interactions
    from rallrec_pipeline.datasets.kcore import core_of
    from rallrec_pipeline.datasets.readers import read_interactions, read_items
    from rallrec_pipeline.datasets.sequences import UserSequences
    from rallrec_pipeline.prompts.sampling import choose_samples
    from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
    from rallrec_pipeline.retrieval.rankings import by_vectors
    from rallrec_pipeline.settings import ExpertSettings, PromptSettings, RetrievalSettings, SeedSettings

    spec = get_dataset(NAME, lake, PROTOCOL)
    items = read_items(spec, lake).table
    core = in_protocol_order(core_of(read_interactions(spec, lake).table, items, spec.protocol), spec.protocol, 0)
    samples = make_samples(core, spec.protocol, spec.label)
    item_ids = core["item_id"].unique(maintain_order=True).to_list()
    rng = np.random.default_rng(SEED)
    text, graph = (rng.normal(size=(len(item_ids), n)).astype(np.float32) for n in (TEXT_WIDTH, GRAPH_WIDTH))
    wanted = PromptSettings(train_samples=TUNED_ROWS, validation_samples=VALID_ROWS)
    chosen = choose_samples(samples, wanted, SeedSettings(), spec.protocol)
    sequences = UserSequences.from_interactions(core, item_ids)
    sizes = RetrievalSettings(history_length=K)
    plain = by_vectors(np.ones((len(item_ids), 1), np.float32))  # relevance plays no part
    histories = retrieve_histories(chosen, sequences, Retriever(plain, sizes, alpha=0.5))
    spared = chosen.filter(pl.col("split") == "train")
    fitted = training_interactions(core, samples).select("user_id", "item_id")
    fitted = fitted.join(spared, on=["user_id", "item_id"], how="anti")
    evidence = Evidence(core, samples, histories, fitted, item_ids, text, graph)
    asked = chosen.filter(pl.col("split") != "train")["sample_id"].to_numpy()  # numbers of samples are their places
    start = clock()
    found = predict_experts(evidence, asked, spec.label.like_above, ExpertSettings(), SEED)
    return {
        "ratings": core.height,
        "rows": len(asked),
        "seconds": clock() - start,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "experts": {name: one.seconds for name, one in found.items()},
    }


def foretold(runs: list[Run], figure: Literal["seconds", "gigabytes"]) -> float:
    """The figure at 25M ratings, on the straight line through the smallest and the largest run."""
    small, large = min(runs, key=lambda run: run["ratings"]), max(runs, key=lambda run: run["ratings"])
    slope = (large[figure] - small[figure]) / (large["ratings"] - small["ratings"])
    return large[figure] + slope * (WHOLE - large["ratings"])


def row(name: str, unit: str, ours: float, limit: float) -> None:
    """Print one figure beside its limit."""
    found = {"name": name, "unit": unit, "ours": round(ours, 3), "peer": limit, "peer_name": "limit"}
    print(json.dumps(found | {"ratio": round(limit / ours, 3), "target": 1}), flush=True)


if __name__ == "__main__":
    main()
