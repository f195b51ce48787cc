"""The first links of the chain: raw lines, numbers of ratings, the item's fields."""

from __future__ import annotations

from dataclasses import asdict

import polars as pl

from rallrec_pipeline.datasets.file_spec import TableFile
from rallrec_pipeline.datasets.histories import training_interactions
from rallrec_pipeline.datasets.kcore import core_in_words
from rallrec_pipeline.datasets.raw_lines import find_lines
from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.errors import DataError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.files import file_sha256
from rallrec_pipeline.lake.provenance import content_version
from rallrec_pipeline.pipeline.lineage.model import Counts, Item, Place, Ratings, Raw
from rallrec_pipeline.pipeline.lineage.state import LakeState, gone


def raw_lines(state: LakeState, item_id: str) -> Raw:
    """Where the item stands in the raw files, which are read as they are now."""
    spec, notes = state.run.spec, list[str]()
    item = raw_place(state, spec.items, item_id, notes)
    same = spec.items.file == spec.interactions.file
    ratings = item if same else raw_place(state, spec.interactions, item_id, notes)
    if item is not None and same:
        notes.append(f"items are taken from the file of the ratings, {item.file}: the first {item.unit} has the fields")
    elif item is not None and item.count == 0:
        notes.append(f"{item.file} does not list this item: it is known from its ratings only")
    elif item is not None and item.count > 1:
        notes.append(f"{item.count} {item.unit}s of {item.file} have this id: the first stays, the others are rejected")
    record = state.record("raw_files")
    lake = state.run.lake
    changed = not record.is_whole(lake) or bool(record.damaged(lake)) if record and item is not None else None
    if changed:
        notes.append("the raw files have changed since raw_files was recorded: these are the lines of now")
    return Raw(item, ratings, same, changed, notes)


def raw_place(state: LakeState, table: TableFile, item_id: str, notes: list[str]) -> Place | None:
    """Where one raw file names the item; None, and a note, where the file is missing or cannot be read."""
    lake, spec = state.run.lake, state.run.spec
    try:
        found = find_lines(spec, lake, table, "item_id", item_id)
    except DataError as error:
        notes.append(str(error))
        return None
    path = raw_folder(lake, spec.name) / table.file
    lines = [asdict(line) for line in found.first]
    digest = content_version([path]) if path.is_dir() else file_sha256(path)  # a table in parts is a folder
    return Place(path.relative_to(lake).as_posix(), found.unit, found.count, lines, digest)


def rating_counts(state: LakeState, item_id: str, raw: Place | None) -> Ratings:
    """How many ratings of the item there are, from the raw file to what LightGCN was fitted on."""
    notes: list[str] = []
    samples = _rows(state, "samples", tables.SAMPLES, item_id, "split", notes)
    return Ratings(
        raw=None if raw is None else raw.count,
        accepted=_height(_rows(state, "interactions", tables.INTERACTIONS, item_id, "item_id", notes)),
        core=_height(_rows(state, "core_interactions", tables.CORE_INTERACTIONS, item_id, "item_id", notes)),
        training=_training(state, item_id),
        fitted=_height(_rows(state, "collaborative_embeddings", tables.FITTED_INTERACTIONS, item_id, "item_id", notes)),
        samples=None if samples is None else counts(samples["split"]),
        notes=notes,
    )


def item_fields(state: LakeState, item_id: str, accepted: int | None) -> Item:
    """The item's fields, and why it is not in the core where it is not."""
    of_item, notes = pl.col("item_id") == item_id, list[str]()
    core = state.read("core_items", tables.CORE_ITEMS, of_item)
    listed = state.read("items", tables.ITEMS, of_item)
    if core is None:
        notes += gone(state, "core_items", "the fields in the core")
    found = next((table for table in (core, listed) if table is not None and table.height), None)
    fields = {} if found is None else found.drop("item_id").row(0, named=True)
    in_core = None if core is None else bool(core.height)
    if in_core is False:
        notes.append(_why_dropped(state.run.spec, fields, accepted))
    return Item(fields or None, None if listed is None else bool(listed.height), in_core, notes)


def counts(values: pl.Series) -> Counts:
    """How often each value occurs, in the order of splits, then of names."""
    order = {"train": 0, "valid": 1, "test": 2}
    return dict(sorted(values.value_counts().iter_rows(), key=lambda pair: (order.get(pair[0], 3), pair[0])))


def _rows(
    state: LakeState, stage: str, table: tables.Table, item_id: str, column: str, notes: list[str]
) -> pl.DataFrame | None:
    rows = state.read(stage, table, pl.col("item_id") == item_id, columns=[column])
    if rows is None:
        notes += gone(state, stage, f"the item's rows of {table.name}")
    return rows


def _height(rows: pl.DataFrame | None) -> int | None:
    return None if rows is None else rows.height


def _training(state: LakeState, item_id: str) -> int | None:
    """Ratings of the item that something may be fitted on."""
    core = state.read("core_interactions", tables.CORE_INTERACTIONS, columns=["user_id", "item_id", "timestamp"])
    samples = state.read("samples", tables.SAMPLES, columns=["user_id", "item_id", "split"])
    if core is None or samples is None:
        return None
    return training_interactions(core, samples).filter(pl.col("item_id") == item_id).height


def _why_dropped(spec: DatasetSpec, fields: dict[str, str], accepted: int | None) -> str:
    rules = spec.protocol
    rule = core_in_words(rules)
    if rules.selection:
        rule = f"of all ratings {core_in_words(rules.selection)}; of these items {rule}"
    if rules.item_limit:
        rule += f"; the {rules.item_limit:,} most rated items"
    ratings = "" if accepted is None else f": it has {accepted} rating{'' if accepted == 1 else 's'}"
    lacking = [name for name in rules.require if not fields.get(name)]
    missing = f" and no {', no '.join(lacking)}, which the protocol asks for" if lacking else ""
    return f"the item is not in the core of the protocol {spec.protocol_name!r} ({rule}){ratings}{missing}"
