"""A tiny world in which the whole job has run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallrec_pipeline.orchestration.jobs import materialize_dataset
from rallrec_pipeline_tests.pipeline.tiny import SMALL, add_odd_items, make_world


def make_finished(root: Path, settings: str | None = None) -> None:
    """Make it in a folder that is empty or not there, with the tiny LLM or as the text `settings` says."""
    with pytest.MonkeyPatch.context() as patch:
        add_odd_items(make_world(root, patch, (SMALL,)))
        if settings is not None:
            (root / "settings.toml").write_text(settings, encoding="utf-8")
        patch.delenv("DAGSTER_HOME")
        summary = materialize_dataset(SMALL)
        assert summary.error is None and summary.checks and all(summary.worked.values())
