"""A tiny world in which the whole job has run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.pipeline.tiny import SMALL, add_odd_items, make_world


def make_finished(root: Path) -> None:
    """Make it in a folder that is empty or not there."""
    with pytest.MonkeyPatch.context() as patch:
        add_odd_items(make_world(root, patch, (SMALL,)))
        patch.delenv("DAGSTER_HOME")
        summary = materialize_dataset(SMALL)
        assert summary.error is None and summary.checks and all(summary.worked.values())
