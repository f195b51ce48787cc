"""Whether a dataset knows an item, and what to say where it does not."""

from __future__ import annotations

from difflib import get_close_matches

import polars as pl

from rallrec_pipeline.datasets.order import id_order
from rallrec_pipeline.errors import ConfigError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.store import past_refs, record_of
from rallrec_pipeline.pipeline.lineage.item import raw_place
from rallrec_pipeline.pipeline.lineage.state import LakeState
from rallrec_pipeline.text import clean_text

SUGGESTED = 5
CANDIDATES = 20_000  # ids that are compared letter by letter
DESCRIBED = "item_descriptions"


def require_item(state: LakeState, item_id: str) -> None:
    """Raises ConfigError, with ids that are near, when no table, record or raw file of the dataset knows the item."""
    if _in_tables(state, item_id) or state.row(DESCRIBED, tables.ITEM_DESCRIPTIONS, item_id):
        return
    lake, dataset, spec = state.run.lake, state.run.dataset, state.run.spec
    if state.record("raw_files") is None:
        raise ConfigError(f"nothing of {dataset!r} has been made: run `rallrec run {dataset}` first")
    places = [raw_place(state, table, item_id, []) for table in (spec.items, spec.interactions)]
    if any(place is not None and place.count for place in places):
        return
    hint = _earlier(state, item_id) or _near(state, item_id)
    raise ConfigError(f"{dataset!r} in {lake} has no item {clean_text(item_id)!r}{hint}")


def _in_tables(state: LakeState, item_id: str) -> bool:
    for table in (tables.CORE_ITEMS, tables.ITEMS, tables.INTERACTIONS):
        found = state.now.read(table.name, table, pl.col("item_id") == item_id, columns=["item_id"])
        if found is not None and found.height:
            return True
    return False


def _earlier(state: LakeState, item_id: str) -> str:
    """The newest run that still had the item."""
    lake, dataset, seen = state.run.lake, state.run.dataset, set[str]()
    for ref in past_refs(lake, dataset):
        record = record_of(lake, dataset, ref, DESCRIBED)
        if record is None or record.fingerprint in seen:
            continue
        seen.add(record.fingerprint)
        rows = record.rows(lake)
        if rows is not None and rows.filter(pl.col("item_id") == item_id).height:
            return f" any more: run {ref.run_id} still had it, add `--at {ref.run_id}`"
    return ""


def _near(state: LakeState, item_id: str) -> str:
    """Ids that differ by a letter or two, and items with such a title."""
    # A slip of one letter leaves the first or the second half of an id as it is.
    half = len(item_id) // 2
    same_half = pl.col("item_id").str.starts_with(item_id[:half]) | pl.col("item_id").str.ends_with(item_id[half:])
    titled = pl.col("title").str.to_lowercase().str.contains(item_id.lower(), literal=True) & bool(item_id.strip())
    found = state.now.read("items", tables.ITEMS, same_half | titled, columns=["item_id", "title"])
    if found is None:
        return ""
    named = dict(found.filter(titled).head(SUGGESTED).iter_rows())
    ids = found.filter(same_half).sort(*id_order("item_id")).head(CANDIDATES)["item_id"].to_list()
    near = sorted(get_close_matches(item_id, ids, 2 * SUGGESTED), key=lambda i: len(i) != len(item_id))
    names = [clean_text(i) for i in near] + [f"{clean_text(i)} ({clean_text(t, 40)})" for i, t in named.items()]
    return f": did you mean {', '.join(names[:SUGGESTED])}?" if names else ""
