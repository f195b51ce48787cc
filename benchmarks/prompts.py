"""Retrieval and prompts: ours against row-by-row Python as the papers' code does it.

MovieLens-100K under the papers' 5-core, K=30, the reranked history in the papers' yes/no form. The vectors are random:
what they say changes no step. The peer is written after the published code: an argsort of the whole item-by-item matrix
of similarities, a walk along the target's row of it for each sample until K items of the history are found, and a
prompt put together title by title with `DataFrame.loc`. Both sides must give the same prompts; the last bit of a
similarity may differ, so up to one in a thousand may not.

Needs the raw files in the lake: `rallrec run movielens-100k --select raw_files` first (`make bench` sees to it).
Prints one JSON line.

    python benchmarks/prompts.py --samples 2000 --peer-samples 200     quickly
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
from movielens import MovieLens
from numpy.typing import NDArray
from rows import print_row

from rallrec_pipeline.datasets.sequences import UserSequences
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.prompts.build import build_prompts, prompt_context
from rallrec_pipeline.prompts.facts import Facts
from rallrec_pipeline.retrieval.histories import Retriever, retrieve_histories
from rallrec_pipeline.retrieval.rankings import by_vectors
from rallrec_pipeline.settings import RetrievalSettings

TARGET = 200.0
RUNS = 3  # of ours; the peer runs once
K, ALPHA, BETA, DIMENSIONS, SEED = 30, 2 / 3, 1.0, 64, 2025
MAX_DIFFERENT = 1e-3
Vectors = NDArray[np.float32]


def main() -> None:
    """Time both sides, compare their prompts, print the row."""
    parser = argparse.ArgumentParser(description="Retrieval and prompts, samples/s, against row-by-row Python.")
    parser.add_argument("--samples", type=int, default=20_000, help="of ours")
    parser.add_argument("--peer-samples", type=int, default=1_000, help="the first of these")
    options = parser.parse_args()
    data = MovieLens.read()
    samples = data.samples.tail(options.samples)  # the last ones, as those that are asked about
    vectors = np.random.default_rng(SEED).normal(size=(data.items.height, DIMENSIONS)).astype(np.float32)

    fastest = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        prompts = at_once(data, samples, vectors)
        fastest = min(fastest, time.perf_counter() - start)
    ours = samples.height / fastest

    start = time.perf_counter()
    order = np.argsort(-(vectors @ vectors.T), axis=1)  # for all samples at once, so not a part of the rate
    print(f"the peer's item-by-item argsort: {time.perf_counter() - start:.1f} s, not counted", file=sys.stderr)
    first = samples.head(options.peer_samples)
    frames = {name: getattr(data, name).to_pandas() for name in ("core", "items", "users")}
    start = time.perf_counter()
    theirs = row_by_row(data.spec, frames, first.to_pandas(), order)
    peer = first.height / (time.perf_counter() - start)

    different = sum(a != b for a, b in zip(prompts, theirs, strict=False)) / len(theirs)
    if different > MAX_DIFFERENT:
        raise SystemExit(f"{different:.1%} of the prompts are not the same: the comparison is void")
    name, peer_name = f"retrieval and prompts, K={K}", "row-by-row Python, as the published code"
    print_row(name, "samples/s", ours, peer, peer_name, TARGET)


def at_once(data: MovieLens, samples: pl.DataFrame, vectors: Vectors) -> list[str]:
    """Our side, from the tables to the prompts."""
    sequences = UserSequences.from_interactions(data.core, data.items["item_id"].to_list())
    settings = RetrievalSettings(history_length=K, beta=BETA)
    histories = retrieve_histories(samples, sequences, Retriever(by_vectors(vectors), settings, ALPHA))
    context = prompt_context(data.spec, data.items, data.users, Facts())
    return build_prompts(histories, context, ["reranked"], ["yes_no"])["prompt"].to_list()


def row_by_row(
    spec: DatasetSpec, frames: dict[str, pd.DataFrame], samples: pd.DataFrame, order: NDArray[np.int64]
) -> list[str]:
    """The peer: one sample after the other."""
    items, users = frames["items"].set_index("item_id"), frames["users"].set_index("user_id")
    codes = {item: code for code, item in enumerate(items.index)}
    histories = dict(iter(frames["core"].groupby("user_id", sort=False)))
    prompts = []
    for _, sample in samples.iterrows():
        rows = histories[sample["user_id"]].iloc[: sample["history_length"]]
        history, ratings = rows["item_id"].tolist(), rows["rating"].tolist()
        relevant = []
        known = [codes[item] for item in history]
        for code in order[codes[sample["item_id"]]]:
            if code in known:
                relevant.append(known.index(code))
            if len(relevant) == K:
                break
        shown = merged(relevant, list(range(len(history) - 1, -1, -1))[:K])
        rated = [f"{items.loc[history[place], 'title']} ({ratings[place]:g} stars)" for place in shown]
        profile = [f"{name}: {users.loc[sample['user_id'], name]}" for name in spec.user_fields]
        prompts.append(
            f"User profile: {'; '.join(profile)}.\n"
            f"Movies this user rated (out of {spec.label.scale[-1]:g} stars): {', '.join(rated)}.\n"
            f"More than {spec.label.like_above:g} stars means that the user likes a movie.\n"
            f'Judging by this, will the user like the movie "{items.loc[sample["item_id"], "title"]}"?\n'
            "Answer with Yes or No only."
        )
    return prompts


def merged(relevant: list[int], recent: list[int]) -> list[int]:
    """Eq. 8: the K places with the largest score of their channel over their rank."""
    scores: dict[int, float] = {}
    for channel, places in ((ALPHA, relevant), (1 - ALPHA, recent)):
        for rank, place in enumerate(places, start=1):
            scores[place] = max(scores.get(place, 0.0), round(channel / rank**BETA, 12))
    return sorted(scores, key=lambda place: -scores[place])[:K]


if __name__ == "__main__":
    main()
