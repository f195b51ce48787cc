"""The end of the chain: the item's row in the index and its nearest neighbours."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rallrec_pipeline.embeddings.mixture import unit_rows
from rallrec_pipeline.errors import RallrecError
from rallrec_pipeline.lake import tables
from rallrec_pipeline.lake.vectors import vectors_of
from rallrec_pipeline.pipeline.lineage.model import Index, Neighbour
from rallrec_pipeline.pipeline.lineage.state import LakeState, gone
from rallrec_pipeline.pipeline.stages.retrieval import index_file
from rallrec_pipeline.retrieval.index import nearest_items, read_index
from rallrec_pipeline.retrieval.inverted_lists import has_lists

NEIGHBOURS = 5
PARTS = ("text", "collaborative", "aligned")
TOLERANCE = 1e-3  # of a similarity against the weighted sum of its parts, all float32


def position_of(state: LakeState, item_id: str) -> Index:
    """Row, mixture and neighbours of the item, from the stored index."""
    record = state.record("item_embeddings")
    weights = None if record is None else record.metadata.get("weights")
    stored = state.record("item_index")
    if stored is None:
        return Index(None, None, weights, [])
    path = index_file(stored.folder(state.run.lake), state.run.dataset)
    if not path.exists():
        return Index(None, None, weights, [], gone(state, "item_index", "the item's row and neighbours"))
    try:
        index, item_ids = read_index(path)
    except RallrecError as error:
        return Index(None, None, weights, [], [str(error)])
    if item_id not in item_ids:
        return Index(None, len(item_ids), weights, [], ["the item has no row in the index"])
    row = item_ids.index(item_id)
    if has_lists(index):
        index.make_direct_map()  # without it an IVF index cannot tell a row's vector
    query = np.ascontiguousarray(index.reconstruct(row), np.float32)[None]
    (rows,), (scores,) = nearest_items(index, query, min(NEIGHBOURS, len(item_ids) - 1), np.array([row]))
    near = [(int(r), float(s)) for r, s in zip(rows, scores, strict=True) if r >= 0]
    neighbours = _neighbours(state, item_id, [(item_ids[r], r, s) for r, s in near])
    return Index(row, len(item_ids), weights, neighbours, _doubts(neighbours, weights))


def _neighbours(state: LakeState, item_id: str, near: list[tuple[str, int, float]]) -> list[Neighbour]:
    others = [other for other, _, _ in near]
    cosines = {part: _cosines(state, part, item_id, others) for part in PARTS}
    titles = _titles(state, others)
    return [
        Neighbour(other, titles.get(other, ""), row, score, {part: found.get(other) for part, found in cosines.items()})
        for other, row, score in near
    ]


def _cosines(state: LakeState, part: str, item_id: str, others: list[str]) -> dict[str, float]:
    """Cosine of the item's vector of one part with that of each of `others`; nothing where they are not stored."""
    wanted = pl.col("item_id").is_in([item_id, *others])
    table = state.read(f"{part}_embeddings", tables.embeddings_table(part), wanted, columns=["item_id", "vector"])
    if table is None or table.is_empty():
        return {}
    units: NDArray[np.float64] = unit_rows(vectors_of(table)).astype(np.float64)
    unit_of = dict(zip(table["item_id"], units, strict=True))
    if item_id not in unit_of:
        return {}
    return {other: float(unit_of[item_id] @ unit_of[other]) for other in others if other in unit_of}


def _titles(state: LakeState, item_ids: list[str]) -> dict[str, str]:
    """Titles of now."""
    items = state.now.read(
        "core_items", tables.CORE_ITEMS, pl.col("item_id").is_in(item_ids), columns=["item_id", "title"]
    )
    return {} if items is None else dict(items.iter_rows())


def _doubts(neighbours: list[Neighbour], weights: dict[str, float] | None) -> list[str]:
    """Whether the parts are those that the index was made of: their weighted sum is the similarity."""
    if any(cosine is None for near in neighbours for cosine in near.parts.values()):
        return ["similarities of parts are left out where their vectors are not stored any more"]
    for near in neighbours if weights else []:
        total = sum((weights or {}).get(part, 0.0) * (cosine or 0.0) for part, cosine in near.parts.items())
        if abs(total - near.similarity) > TOLERANCE:
            return ["the parts are not those that the index was made of: item_index or item_embeddings is stale"]
    return []
