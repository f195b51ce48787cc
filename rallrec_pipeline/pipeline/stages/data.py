"""Groups `raw` and `data`: raw files to samples."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.histories import in_protocol_order, make_samples
from rallrec_pipeline.datasets.kcore import core_of
from rallrec_pipeline.datasets.order import id_order
from rallrec_pipeline.datasets.raw_files import fetch_raw_files
from rallrec_pipeline.datasets.readers import raw_file, read_interactions, read_items, read_raw, read_users
from rallrec_pipeline.datasets.rows import rows_left_out
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import Made, StageRun
from rallrec_pipeline.sources.address import shown_address
from rallrec_pipeline.sources.source import data_files
from rallrec_pipeline.text import clean_text


def raw_files(run: StageRun) -> Made:
    """The files as published, checked against their pinned SHA-256."""
    where = clean_text(shown_address(run.spec.source.location), 200) or "an address each"
    run.log(f"raw_files: from {where} ({run.spec.source.kind}), where they are not here yet or have changed")
    files = fetch_raw_files(run.spec, run.lake, run.progress, {file.name for file in run.damaged}, run.log)
    return Made(files, {"files": [file.name for file in files], "bytes": sum(f.stat().st_size for f in files)})


def interactions(run: StageRun) -> Made:
    found = read_interactions(run.spec, run.lake).table
    counts = {"users": found["user_id"].n_unique(), "items": found["item_id"].n_unique()}
    return run.write(found, tables.INTERACTIONS, **counts, **_left_out(run, run.spec.interactions))


def items(run: StageRun) -> Made:
    return run.write(read_items(run.spec, run.lake).table, tables.ITEMS, **_left_out(run, run.spec.items))


def users(run: StageRun) -> Made:
    return run.write(read_users(run.spec, run.lake).table, tables.USERS, **_left_out(run, run.spec.users))


def _left_out(run: StageRun, table: TableFile | None) -> dict[str, int]:
    """How many raw rows `where` has left out, which are refused by nobody and in no table."""
    if table is None or not table.where:
        return {}
    path = raw_file(run.spec, run.lake, table)
    parts = data_files(path) if path.is_dir() else [path]
    return {"left_out_by_where": sum(rows_left_out(part, table) for part in parts)}


def rejected_rows(run: StageRun) -> Made:
    rejected = read_raw(run.spec, run.lake).rejected
    counts = rejected.group_by("table", "reason").len().sort("table", "len", "reason", descending=[False, True, False])
    reasons = {f"{table}: {reason}": count for table, reason, count in counts.iter_rows()}
    return run.write(rejected, tables.REJECTED_ROWS, reasons=reasons)


def core_interactions(run: StageRun) -> Made:
    core = core_of(run.read(tables.INTERACTIONS), run.read(tables.ITEMS), run.spec.protocol)
    if core.is_empty():
        raise DataError(
            f"nothing is left of {run.dataset!r} after the k-core ({run.spec.protocol.user_core} per user, "
            f"{run.spec.protocol.item_core} per item): lower the core sizes in its TOML file"
        )
    ordered = in_protocol_order(core, run.spec.protocol, run.seeds.data)
    return run.write(
        ordered,
        tables.CORE_INTERACTIONS,
        users=core["user_id"].n_unique(),
        items=core["item_id"].n_unique(),
    )


def core_items(run: StageRun) -> Made:
    """The catalogue rows of the core's items; an item that the catalogue lacks has empty fields."""
    kept = run.read(tables.CORE_INTERACTIONS).select("item_id").unique()
    catalogue = kept.join(run.read(tables.ITEMS), on="item_id", how="left").with_columns(
        pl.col(pl.String).fill_null("")
    )
    ordered = catalogue.sort(*id_order("item_id"))
    return run.write(ordered, tables.CORE_ITEMS, without_title=ordered.filter(pl.col("title") == "").height)


def samples(run: StageRun) -> Made:
    made = make_samples(run.read(tables.CORE_INTERACTIONS), run.spec.protocol, run.spec.label, run.seeds.data)
    if made.is_empty():
        raise DataError(f"{run.dataset!r} has no sample: lower protocol.min_history in its TOML file")
    shares = made.group_by("split").agg(pl.len(), pl.col("label").mean())
    return run.write(
        made,
        tables.SAMPLES,
        splits={split: n for split, n, _ in shares.iter_rows()},
        liked={split: round(liked, 4) for split, _, liked in shares.iter_rows()},
    )
