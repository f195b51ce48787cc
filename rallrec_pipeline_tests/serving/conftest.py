"""A server on the finished world: the tiny LLM, two methods of it and the expert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rallrec_pipeline_tests.pipeline.conftest import finished_lake, finished_world
from rallrec_pipeline_tests.pipeline.tiny import copied_world, use_lake
from rallrec_pipeline_tests.serving.served import Served, serving

__all__ = ["finished_lake", "finished_world"]


@pytest.fixture(scope="module")
def served(finished_lake: object) -> Iterator[Served]:
    """A server that tests ask and do not change."""
    with serving() as found:
        yield found


@pytest.fixture
def own_lake(finished_world: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished world, which the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        lake = copied_world(finished_world, tmp_path)
        use_lake(lake, finished_world / "settings.toml", patch)
        yield lake
