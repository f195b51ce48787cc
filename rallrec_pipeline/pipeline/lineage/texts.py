"""The middle of the chain: the description and the vectors of the item."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.descriptions import description_keys, description_prompt
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo import Memo
from rallrec_pipeline.lake.memo_rows import DESCRIPTIONS, Kind
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.vectors import vector_version, vectors_of
from rallrec_pipeline.pipeline.lineage.model import Description, Provenance, Vector
from rallrec_pipeline.pipeline.lineage.state import LakeState, gone, provenance_of
from rallrec_pipeline.settings import DescriptionSettings

STAGE = "item_descriptions"
KINDS = ("title", "description", "text", "collaborative", "aligned", "item")
ABSENT = "the item has no row in it"
SAMPLING = ("max_words", "max_new_tokens", "temperature", "top_p")


def description_of(state: LakeState, item_id: str) -> Description:
    """The item's description by the provenance of its row: from the table, else from the cache of the LLM's texts."""
    row, record = state.row(STAGE, tables.ITEM_DESCRIPTIONS, item_id), state.record(STAGE)
    found = provenance_of(row)
    cached, text = _finished(state, DESCRIPTIONS, found), _text(state, item_id)
    notes = []
    if not row:
        notes = gone(state, STAGE, "the description") if row is None else [ABSENT]
    elif text is None:
        notes.append("the text is not stored any more")
    elif stable_hash(text) != found.data_version:
        notes.append("the text has another hash than its record: it was edited by hand")
    settings: dict[str, Any] = dict(record.settings) if record else {}
    asked = DescriptionSettings.model_validate(settings.get("descriptions", {}))
    prompt = (cached or {}).get("prompt") or _rendered(state, item_id, found)
    if row and prompt is None:
        notes.append("the prompt is not stored any more")
    return Description(
        provenance=found,
        text=text,
        status=(row or {}).get("status"),
        attempts=(row or {}).get("attempts"),
        prompt=prompt,
        template=asked.template if row else None,
        sampling={name: getattr(asked, name) for name in SAMPLING} if row else None,
        seed=settings.get("seed") if row else None,
        stored_in="table" if text is not None else None,
        notes=notes,
    )


def vectors_of_item(state: LakeState, item_id: str) -> dict[str, Vector]:
    """The item's vectors of all kinds."""
    return {kind: _vector(state, kind, item_id) for kind in KINDS}


def _vector(state: LakeState, kind: str, item_id: str) -> Vector:
    stage, table_of = f"{kind}_embeddings", tables.embeddings_table(kind)
    row = state.row(stage, table_of, item_id)
    found = provenance_of(row)
    if not row:
        return Vector(found, None, None, None, None, gone(state, stage, "the vector") if row is None else [ABSENT])
    table = state.read(stage, table_of, pl.col("item_id") == item_id)
    if table is None or table.is_empty():
        kept = "its hash and norm are kept" if row.get("norm") is not None else "its hash is kept"
        return Vector(found, None, row.get("norm"), None, None, [f"the vector is not stored any more, {kept}"])
    stored = vectors_of(table)[0].astype("<f4").tobytes()
    vector = np.frombuffer(stored, "<f4").astype(np.float64)
    verified = vector_version(stored) == found.data_version
    notes = [] if verified else ["the vector has another hash than its record: its file was edited"]
    norm = float(np.linalg.norm(vector))
    return Vector(found, len(vector), norm, "table", verified, notes)


def _text(state: LakeState, item_id: str) -> str | None:
    rows = state.read(STAGE, tables.ITEM_DESCRIPTIONS, pl.col("item_id") == item_id, columns=["description"])
    return None if rows is None or rows.is_empty() else str(rows["description"][0])


def _finished(state: LakeState, kind: Kind, row: Provenance) -> dict[str, Any] | None:
    """The finished row that was made from the same."""
    found = Memo(state.run.lake, kind).find([row.input_hash] if row.input_hash else [])
    return None if found.is_empty() else found.row(0, named=True)


def _rendered(state: LakeState, item_id: str, row: Provenance) -> str | None:
    """The prompt made anew, where its hash proves that it is the one."""
    run = state.run
    items = state.now.read("core_items", tables.CORE_ITEMS, pl.col("item_id") == item_id)
    if items is None or items.is_empty() or row.model_fingerprint is None:
        return None
    keys = description_keys(items, run.spec, run.settings.descriptions, row.model_fingerprint, run.seeds.sampling)
    if keys != [row.input_hash]:
        return None
    return description_prompt(items.row(0, named=True), run.spec, run.settings.descriptions)
