"""To whom an item is recommended, and whether the method was fitted with ratings of it."""

from __future__ import annotations

import polars as pl

from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.lineage.model import RecommendedTo
from rallrec_pipeline.pipeline.lineage.state import RECOMMENDING, LakeState
from rallrec_pipeline.pipeline.stages.recommendations import fit_file
from rallrec_pipeline.recommendation.fit import read_fit
from rallrec_pipeline.recommendation.table import BEFORE_ITEM, WITH_ITEM

FIT = "recommender_fit"


def recommended_to(state: LakeState, item_id: str) -> RecommendedTo | None:
    """None where nothing is recommended yet, or its files are gone."""
    record = state.record(RECOMMENDING)
    about = pl.col("item_id") == item_id
    rows = state.read(RECOMMENDING, tables.RECOMMENDATIONS, about, columns=["user_id", "rank"])
    if record is None or rows is None:
        return None
    described = state.read("new_item_descriptions", tables.NEW_ITEM_DESCRIPTIONS, about, columns=["description"])
    return RecommendedTo(
        users=rows.height,
        best_rank=int(rows["rank"].min()) if rows.height else None,  # type: ignore[arg-type]
        fit=_fit(state, item_id),
        method=record.metadata.get("method"),
        run_id=record.run_id,
        created_at=record.created_at,
        description=described["description"][0] if described is not None and described.height else None,
    )


def _fit(state: LakeState, item_id: str) -> str | None:
    """None where the item cannot be recommended at all, or the fit is gone."""
    record = state.record(FIT)
    if record is None or not state.is_stored(FIT):
        return None
    fit = read_fit(fit_file(record.folder(state.run.lake), state.run.dataset))
    if item_id in fit.item_ids:
        return WITH_ITEM if fit.counts()[fit.item_ids.index(item_id)] else BEFORE_ITEM
    new = state.read("new_item_descriptions", tables.NEW_ITEM_DESCRIPTIONS, pl.col("item_id") == item_id)
    return BEFORE_ITEM if new is not None and new.height else None
