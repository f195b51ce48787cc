"""Groups `raw` and `data`: raw files to samples."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.datasets.histories import make_samples
from rallrec_pipeline.datasets.kcore import k_core
from rallrec_pipeline.datasets.readers import read_raw
from rallrec_pipeline.datasets.sources import fetch_raw_files
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.orchestration.run import Made, StageRun


def raw_files(run: StageRun) -> Made:
    """The files as published, checked against their pinned SHA-256."""
    files = fetch_raw_files(run.spec, run.lake)
    return Made(files, {"files": [file.name for file in files], "bytes": sum(f.stat().st_size for f in files)})


def interactions(run: StageRun) -> Made:
    raw = read_raw(run.spec, run.lake)
    return run.write(raw.interactions, tables.INTERACTIONS, users=raw.interactions["user_id"].n_unique())


def items(run: StageRun) -> Made:
    return run.write(read_raw(run.spec, run.lake).items, tables.ITEMS)


def users(run: StageRun) -> Made:
    return run.write(read_raw(run.spec, run.lake).users, tables.USERS)


def rejected_rows(run: StageRun) -> Made:
    rejected = read_raw(run.spec, run.lake).rejected
    reasons = dict(rejected["reason"].value_counts().iter_rows())
    return run.write(rejected, tables.REJECTED_ROWS, reasons=reasons)


def core_interactions(run: StageRun) -> Made:
    rules = run.spec.protocol
    ratings = run.read(tables.INTERACTIONS)
    core = k_core(ratings, rules.user_core, rules.item_core, rules.user_cap, rules.item_cap, rules.item_limit)
    if core.is_empty():
        raise DataError(
            f"nothing is left of {run.dataset!r} after the k-core ({rules.user_core} per user, "
            f"{rules.item_core} per item): lower the core sizes in its TOML file"
        )
    return run.write(
        core,
        tables.CORE_INTERACTIONS,
        users=core["user_id"].n_unique(),
        items=core["item_id"].n_unique(),
        dropped=ratings.height - core.height,
    )


def core_items(run: StageRun) -> Made:
    kept = run.read(tables.CORE_INTERACTIONS).select("item_id").unique()
    catalogue = run.read(tables.ITEMS).join(kept, on="item_id", how="semi")
    ordered = catalogue.sort(pl.col("item_id").str.len_bytes(), "item_id")
    return run.write(ordered, tables.CORE_ITEMS)


def samples(run: StageRun) -> Made:
    made = make_samples(run.read(tables.CORE_INTERACTIONS), run.spec.protocol, run.spec.label)
    if made.is_empty():
        raise DataError(f"{run.dataset!r} has no sample: lower protocol.min_history in its TOML file")
    shares = made.group_by("split").agg(pl.len(), pl.col("label").mean())
    return run.write(
        made,
        tables.SAMPLES,
        splits={split: n for split, n, _ in shares.iter_rows()},
        liked={split: round(liked, 4) for split, _, liked in shares.iter_rows()},
    )
