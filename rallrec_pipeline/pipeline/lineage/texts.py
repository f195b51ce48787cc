"""The middle of the chain: the description and the vectors of the item."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.descriptions import description_keys, description_prompt
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.memo import DESCRIPTIONS, VECTORS, Kind, Memo
from rallrec_pipeline.lake.provenance import stable_hash
from rallrec_pipeline.lake.vectors import vector_version, vectors_of
from rallrec_pipeline.pipeline.lineage.model import Description, Provenance, Vector
from rallrec_pipeline.pipeline.lineage.state import LakeState, gone, provenance_of

STAGE = "item_descriptions"
BY_ROW = ("title", "description")  # kinds that the encoder makes row by row; the others are made from whole tables
KINDS = (*BY_ROW, "text", "collaborative", "aligned", "item")
ABSENT = "the item has no row in it"
SAMPLING = ("max_words", "max_new_tokens", "temperature", "top_p")


def description_of(state: LakeState, item_id: str) -> Description:
    """The item's description by the provenance of its row: from the table, else from the cache of the LLM's texts."""
    row, record = state.row(STAGE, tables.ITEM_DESCRIPTIONS, item_id), state.record(STAGE)
    found = provenance_of(row)
    current, cached = _current_text(state, found), _finished(state, DESCRIPTIONS, found)
    text = (current or cached or {}).get("text")
    notes = []
    if not row:
        notes = gone(state, STAGE, "the description") if row is None else [ABSENT]
    elif text is None:
        notes.append("the text is in neither the table nor the cache: not stored any more")
    elif stable_hash(text) != found.data_version:
        notes.append("the text has another hash than its record: it was edited by hand")
    settings: dict[str, Any] = dict(record.settings) if record else {}
    asked = settings.get("descriptions", {})
    prompt = (cached or {}).get("prompt") or _rendered(state, item_id, found)
    if row and prompt is None:
        notes.append("the prompt is not stored any more")
    return Description(
        provenance=found,
        text=text,
        status=(row or {}).get("status"),
        attempts=(row or {}).get("attempts"),
        prompt=prompt,
        template=asked.get("template") if row else None,
        sampling={name: asked.get(name) for name in SAMPLING} if row and asked else None,
        seed=settings.get("seed") if row else None,
        stored_in="table" if current else "cache" if text is not None else None,
        notes=notes,
    )


def vectors_of_item(state: LakeState, item_id: str) -> dict[str, Vector]:
    """The item's vectors of all kinds."""
    return {kind: _vector(state, kind, item_id) for kind in KINDS}


def _vector(state: LakeState, kind: str, item_id: str) -> Vector:
    stage, table = f"{kind}_embeddings", tables.embeddings_table(kind)
    row = state.row(stage, table, item_id)
    found = provenance_of(row)
    if not row:
        return Vector(found, None, None, None, None, gone(state, stage, "the vector") if row is None else [ABSENT])
    current = _current_vector(state, kind, item_id, found)
    kept = _finished(state, VECTORS, found) if kind in BY_ROW and not current else None
    stored = current or (kept or {}).get("vector")
    if stored is None:
        rest = "its hash and norm are kept" if row.get("norm") is not None else "its hash is kept"
        return Vector(found, None, row.get("norm"), None, None, [f"the vector is not stored any more, {rest}"])
    vector = np.frombuffer(stored, "<f4").astype(np.float64)
    verified = vector_version(stored) == found.data_version
    notes = [] if verified else ["the vector has another hash than its record: its file was edited"]
    norm = float(np.linalg.norm(vector))
    return Vector(found, len(vector), norm, "table" if current else "cache", verified, notes)


def _current_vector(state: LakeState, kind: str, item_id: str, row: Provenance) -> bytes | None:
    """Bytes of the vector in the table of now, where it is that of the row."""
    lake, dataset, table = state.run.lake, state.run.dataset, tables.embeddings_table(kind)
    if not table.exists(lake, dataset):
        return None
    now = state.now.read(f"{kind}_embeddings", table, pl.col("item_id") == item_id)
    if now is None or now.is_empty() or now["data_version"][0] != row.data_version:
        return None
    return vectors_of(now)[0].astype("<f4").tobytes()


def _current_text(state: LakeState, row: Provenance) -> dict[str, Any] | None:
    """The row of the table of now that was made from the same."""
    if row.input_hash is None:
        return None
    same = pl.col("input_hash") == row.input_hash
    now = state.now.read(STAGE, tables.ITEM_DESCRIPTIONS, same)
    return None if now is None or now.is_empty() else {"text": now["description"][0]}


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
    keys = description_keys(items, run.spec, run.settings.descriptions, row.model_fingerprint, run.seed)
    if keys != [row.input_hash]:
        return None
    return description_prompt(items.row(0, named=True), run.spec, run.settings.descriptions)
