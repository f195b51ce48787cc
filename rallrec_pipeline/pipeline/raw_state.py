"""Whether the raw files are those that the last run took in."""

from __future__ import annotations

from pathlib import Path

from rallrec_pipeline.datasets.readers import raw_folder
from rallrec_pipeline.datasets.spec import DatasetSpec
from rallrec_pipeline.lake.store import in_force, record_of
from rallrec_pipeline.pipeline.graph import GRAPH
from rallrec_pipeline.sources.record import has_changed
from rallrec_pipeline.sources.state import State

STAGE = "raw_files"
MADE = {stage.name for stage in GRAPH if stage.partitioned}


def is_as_made(spec: DatasetSpec, lake: Path, watched: State) -> bool:
    """Whether `watched`, the state of `watched_files`, has the content that all stages were made of.

    False where some stage was never made, as after a run that was broken off.
    """
    ref = in_force(lake, spec.name)
    record = record_of(lake, spec.name, ref, STAGE)
    if ref is None or record is None or not ref.results.keys() >= MADE:
        return False
    if spec.origin.local_files:
        return not has_changed(spec.origin, raw_folder(lake, spec.name), watched)
    made = {str(lake / name): digest for name, (_, _, digest) in record.files.items()}
    return made == {path: digest for path, (_, _, digest) in watched.items()}
