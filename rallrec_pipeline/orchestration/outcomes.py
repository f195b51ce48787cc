"""How a run tells Dagster what came of a stage: a materialization, or an observation where nothing is new.

An observation leaves the plots of a partition as they are. A materialization of what was there already would put a
point of no work beside that of the real cost, one for each stage and idle run.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field

from rallrec_pipeline.lake.store import Record
from rallrec_pipeline.orchestration.internals import NO_MATERIALIZATION
from rallrec_pipeline.orchestration.metadata import dagster_metadata
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.origin import origin_of
from rallrec_pipeline.pipeline.stage import Outcome
from rallrec_pipeline.settings import Role

CODE_VERSION = "dagster/code_version"


class Making(dg.Config):
    """What may be asked of a stage when a run is started."""

    force: bool = Field(False, description="Make it anew, also where it is up to date.")


def tell_outcome(
    context: dg.AssetExecutionContext, run: StageRun, outcome: Outcome, role: Role | None = None
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The result of a stage for Dagster; `role` is that of the model it works with."""
    record = outcome.record
    metadata = {
        "worked": outcome.worked,
        **origin_of(run, role or "predictor"),
        **dagster_metadata(record, run.lake, outcome.worked, run.settings.profile),
    }
    if not outcome.worked and _is_materialized(context, record):
        context.log_event(dg.AssetObservation(context.asset_key, partition=_partition(context), metadata=metadata))
        return dg.MaterializeResult(metadata={NO_MATERIALIZATION: True})
    return dg.MaterializeResult(data_version=dg.DataVersion(record.data_version), metadata=metadata)


def _partition(context: dg.AssetExecutionContext) -> str | None:
    """The dataset; None of what all share, also in the run of a dataset."""
    return context.partition_key if context.assets_def.partitions_def is not None else None


def _is_materialized(context: dg.AssetExecutionContext, record: Record) -> bool:
    """Whether the last materialization of this partition tells of `record`, and of the code that is there now."""
    partition = _partition(context)
    wanted = dg.AssetRecordsFilter(context.asset_key, asset_partitions=[partition] if partition else None)
    found = context.instance.fetch_materializations(wanted, limit=1).records
    last = found[0].asset_materialization if found else None
    if last is None:
        return False
    fingerprint: Any = last.metadata.get("fingerprint")
    version = context.assets_def.code_versions_by_key.get(context.asset_key)
    known = (last.tags or {}).get(CODE_VERSION)
    return fingerprint is not None and fingerprint.value == record.fingerprint and known in (version, None)
