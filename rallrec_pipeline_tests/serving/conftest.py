"""A server on the finished world: the tiny LLM, two methods of it and the expert."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rallrec_pipeline_tests.pipeline.conftest import finished_lake, finished_world
from rallrec_pipeline_tests.serving.served import Served, serving

__all__ = ["finished_lake", "finished_world"]


@pytest.fixture(scope="module")
def served(finished_lake: object) -> Iterator[Served]:
    """A server that tests ask and do not change."""
    with serving() as found:
        yield found
