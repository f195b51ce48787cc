"""The lineage of one item, gathered from the lake: no model is asked, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rallrec_pipeline.finite import finite
from rallrec_pipeline.pipeline.adoption import adopt_dataset
from rallrec_pipeline.pipeline.graph import STAGES
from rallrec_pipeline.pipeline.lineage.item import item_fields, rating_counts, raw_lines
from rallrec_pipeline.pipeline.lineage.known import require_item
from rallrec_pipeline.pipeline.lineage.model import End, Item, Lineage, Step
from rallrec_pipeline.pipeline.lineage.position import position_of
from rallrec_pipeline.pipeline.lineage.state import LakeState, find_moment
from rallrec_pipeline.pipeline.lineage.texts import description_of, vectors_of_item
from rallrec_pipeline.pipeline.lineage.uses import uses_of
from rallrec_pipeline.pipeline.stage import looking
from rallrec_pipeline.settings import Settings


def trace(lake: Path, dataset: str, item_id: str, settings: Settings, at: str | None = None) -> Lineage:
    """The chain of `item_id` from its raw line to the predictions, `at` the end of a run instead of now.

    Raises ConfigError for an unknown dataset, run or item, DataError when a file of the lake is damaged.
    """
    run = looking(lake, dataset, settings)
    spec = run.spec  # an unknown dataset is told first
    adopt_dataset(run, STAGES)
    state = LakeState(run, find_moment(lake, dataset, at) if at is not None else None)
    require_item(state, item_id)
    raw = raw_lines(state, item_id)
    ratings = rating_counts(state, item_id, raw.ratings)
    item, steps = item_fields(state, item_id, ratings.accepted), state.steps()
    return Lineage(
        dataset=dataset,
        item_id=item_id,
        profile=settings.profile,
        protocol=spec.protocol_name,
        at=state.at,
        ends=_end(state, item, steps),
        raw=raw,
        ratings=ratings,
        item=item,
        description=description_of(state, item_id),
        vectors=vectors_of_item(state, item_id),
        index=position_of(state, item_id),
        uses=uses_of(state, item_id),
        stages=steps,
    )


def as_json(lineage: Lineage) -> str:
    """One JSON document in ASCII, so that no text of the data can disturb a terminal; NaN and infinity are null."""
    return json.dumps(finite(asdict(lineage)), indent=2, allow_nan=False)


def _end(state: LakeState, item: Item, steps: Mapping[str, Step]) -> End | None:
    """Where the chain ends before its last stage."""
    missing = next((step for step in steps.values() if step.run_id is None), None)
    if missing is not None and (item.in_core is not False or missing.stage in ("core_interactions", "core_items")):
        command = None if state.at else f"rallrec run {state.run.dataset}"
        return End(missing.stage, f"{missing.stage} was {missing.reasons[0]}", command)
    return End("core_items", item.notes[-1], None) if item.in_core is False else None
