"""What the Dagster UI shows of a materialization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from rallrec_pipeline.lake.provenance import Sidecar, sidecar_path


def dagster_metadata(record: Sidecar, lake: Path) -> dict[str, Any]:
    """Row count, columns, cost and origin of an artefact, and what its stage reported."""
    shown: dict[str, Any] = {name: _value(value) for name, value in record.metadata.items()}
    if "rows" in shown:
        shown["dagster/row_count"] = shown.pop("rows")
    tables = [lake / name for name in record.files if name.endswith(".parquet")]
    if tables and "dagster/row_count" in shown:
        shown["dagster/column_schema"] = _column_schema(tables[0])
    return shown | {
        "seconds": record.seconds,
        "fingerprint": record.fingerprint,
        "made_by_run": record.run_id,
        "made_at": record.created_at,
        "files": dg.MetadataValue.json(record.files),
        "provenance": dg.MetadataValue.path(str(sidecar_path(lake, record.artefact, record.dataset))),
    }


def _value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"markdown"}:
        return dg.MetadataValue.md(value["markdown"])
    if isinstance(value, dict | list | tuple):
        return dg.MetadataValue.json(value)
    return "none" if value is None else value


def _column_schema(path: Path) -> dg.TableSchema:
    schema = pl.read_parquet_schema(path)
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])
