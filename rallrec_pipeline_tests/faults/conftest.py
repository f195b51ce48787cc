"""The finished world of the pipeline's tests."""

from rallrec_pipeline_tests.pipeline.conftest import finished_world

__all__ = ["finished_world"]
