"""Which columns of an asset are made from which columns of others: one page, for the UI's column lineage."""

from __future__ import annotations

import dagster as dg

Column = tuple[str, str]  # asset, column

_RATING = ("user_id", "item_id", "rating", "timestamp")
_HISTORIES = ("recent", "relevant", "sequential", "reranked")


def _same(asset: str, names: tuple[str, ...]) -> dict[str, tuple[Column, ...]]:
    return {name: ((asset, name),) for name in names}


COLUMNS: dict[str, dict[str, tuple[Column, ...]]] = {
    "core_interactions": _same("interactions", _RATING),
    "core_items": {
        "item_id": (("core_interactions", "item_id"),),
        "title": (("items", "title"),),
    },
    "samples": _same("core_interactions", _RATING)
    | {"label": (("core_interactions", "rating"),), "history_length": (("core_interactions", "timestamp"),)},
    "item_descriptions": {
        "item_id": (("core_items", "item_id"),),
        "description": (("core_items", "title"),),
    },
    "title_embeddings": {"item_id": (("core_items", "item_id"),), "vector": (("core_items", "title"),)},
    "description_embeddings": {
        "item_id": (("core_items", "item_id"),),
        "vector": (("item_descriptions", "description"),),
    },
    "text_embeddings": {
        "item_id": (("core_items", "item_id"),),
        "vector": (("title_embeddings", "vector"), ("description_embeddings", "vector")),
    },
    "collaborative_embeddings": {
        "item_id": (("core_items", "item_id"),),
        "vector": (*(("core_interactions", name) for name in _RATING), ("samples", "split")),
    },
    "aligned_embeddings": {
        "item_id": (("core_items", "item_id"),),
        "vector": (("text_embeddings", "vector"), ("collaborative_embeddings", "vector")),
    },
    "item_embeddings": {
        "item_id": (("core_items", "item_id"),),
        "vector": tuple((f"{kind}_embeddings", "vector") for kind in ("text", "collaborative", "aligned")),
    },
    "retrieved_histories": _same("samples", ("sample_id",))
    | dict.fromkeys(_HISTORIES, (("core_interactions", "item_id"), ("item_embeddings", "vector"))),
}


def column_lineage(asset: str) -> dg.TableColumnLineage | None:
    """The lineage of one asset's columns, where it is a table made from other tables."""
    columns = COLUMNS.get(asset)
    if columns is None:
        return None
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(dg.AssetKey(upstream), column) for upstream, column in sources]
            for name, sources in columns.items()
        }
    )
