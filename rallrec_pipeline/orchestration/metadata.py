"""What the Dagster UI shows of a materialization."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.store import ROWS, Record
from rallrec_pipeline.lake.tables import COLUMNS, OPEN_FIELD

ABOUT_USERS = ("tuning_prompts", "evaluation_prompts", "reasoning_traces")
"""Their examples are histories of users, which stay in the record: `rallrec forget` cannot reach Dagster's events."""
NO_WORK = {"tokens_per_second": None, "retried": 0, "index_work": "unchanged", "index_why": "", "index_seconds": 0.0}


def dagster_metadata(record: Record, lake: Path, worked: bool) -> dict[str, Any]:
    """Row count, columns, cost and origin of an artefact, and what its stage reported.

    A stage that was up to date has reused all its rows, and cost nothing.
    """
    reported = record.metadata if worked else {**record.metadata, **_nothing_done(record.metadata)}
    if record.stage in ABOUT_USERS:
        reported = {name: value for name, value in reported.items() if name != "examples"}
    figures = {**_figures(reported, record.seconds), **reported}
    shown: dict[str, Any] = {name: _value(value) for name, value in figures.items() if value is not None}
    if "rows" in shown:
        shown["dagster/row_count"] = shown.pop("rows")
    tables = [path for path in record.paths(lake) if path.suffix == ".parquet"]
    files = [file for table in tables for file in shard_files(table)]
    if files and "dagster/row_count" in shown:
        shown["dagster/column_schema"] = _column_schema(files[0])
    if (rows := record.folder(lake) / ROWS).exists():
        shown["provenance_of_rows"] = dg.MetadataValue.path(str(rows))
    return shown | {
        "seconds": record.seconds if worked else 0.0,
        "fingerprint": record.fingerprint,
        "made_by_run": record.run_id,
        "made_at": record.created_at,
        "files": dg.MetadataValue.json(record.outputs),
        "provenance": dg.MetadataValue.path(str(record.manifest(lake))),
    }


def _figures(reported: Mapping[str, Any], seconds: float) -> dict[str, int | float]:
    """What the LLM did as single numbers, which the UI plots over partitions and time.

    `tokens_per_second` is all tokens by all seconds of the stage, loading included, where it reports no other.
    """
    usage: dict[str, int] = reported.get("llm") or {}
    tokens = usage.get("prompt_tokens", 0) + usage.get("new_tokens", 0)
    speed = {"tokens_per_second": round(tokens / seconds, 1)} if tokens and seconds else {}
    return {f"llm_{name}": count for name, count in usage.items()} | speed


def _nothing_done(reported: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a stage that had nothing to do."""
    counts = {name: 0 for name in reported if name.startswith("rows_")}
    if "rows_reused" in counts:
        counts["rows_reused"] = reported["rows"]
    usage = {"llm": dict.fromkeys(reported["llm"], 0)} if "llm" in reported else {}
    work = {name: value for name, value in NO_WORK.items() if name in reported}
    return {**counts, **usage, **work, "why": []}


def _value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"markdown"}:
        return dg.MetadataValue.md(value["markdown"])
    if isinstance(value, dict | list | tuple):
        return dg.MetadataValue.json(value)
    return value


def _column_schema(path: Path) -> dg.TableSchema:
    schema = pl.scan_parquet(path, glob=False).collect_schema()
    return dg.TableSchema(
        [dg.TableColumn(name, str(dtype), COLUMNS.get(name, OPEN_FIELD)) for name, dtype in schema.items()]
    )
