"""What Dagster loads."""

from rallrec_pipeline.orchestration.build import build_definitions

defs = build_definitions()
