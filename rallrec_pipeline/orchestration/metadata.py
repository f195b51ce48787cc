"""What the Dagster UI shows of a materialization, or of a look at a result that was up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from rallrec_pipeline.lake.shards import shard_files
from rallrec_pipeline.lake.store import ROWS, Record
from rallrec_pipeline.lake.tables import COLUMNS, OPEN_FIELD
from rallrec_pipeline.pipeline.graph import EVERY_STAGE

ABOUT_USERS = ("tuning_prompts", "evaluation_prompts", "reasoning_traces", "recommendations")
"""Their examples name users or tell histories, so they stay in the record: no `forget` reaches Dagster's events."""
NO_WORK = {"tokens_per_second": None, "retried": 0, "index_work": "unchanged", "index_why": "", "index_seconds": 0.0}
MOST_PARTS = 24
"""Figures by name, such as those of each split or method, that are shown as numbers of their own."""


def dagster_metadata(record: Record, lake: Path, worked: bool, profile: str = "") -> dict[str, Any]:
    """Row count, columns, cost and origin of an artefact, and what its stage reported.

    The UI plots numbers over time by their name. So each figure is a number of its own; those of a report bear the
    name of the `profile`, as one profile's figures are no history of another's; and a result that was up to date shows
    what it took to make it, and no rows and tokens, as none were made.
    """
    reported = record.metadata if worked else {**record.metadata, **_nothing_done(record.metadata)}
    if record.stage in ABOUT_USERS:
        reported = {name: value for name, value in reported.items() if name != "examples"}
    numbers = reported if worked else {name: value for name, value in reported.items() if name != "llm"}
    figures = {**_speed(numbers, record.seconds), **_parts(numbers), **reported}
    shown = {_name(record, name, value, profile): _value(value) for name, value in figures.items() if value is not None}
    if "rows" in shown:
        shown["dagster/row_count"] = shown.pop("rows")
    tables = [path for path in record.paths(lake) if path.suffix == ".parquet"]
    files = [file for table in tables for file in shard_files(table)]
    if files and "dagster/row_count" in shown:
        shown["dagster/column_schema"] = _column_schema(files[0])
    if (rows := record.folder(lake) / ROWS).exists():
        shown["provenance_of_rows"] = dg.MetadataValue.path(str(rows))
    if record.stage in EVERY_STAGE:  # the report of a study is made anew when a result that it tells of is
        shown["make_anew"] = dg.MetadataValue.md(how_to_force(record.stage, record.dataset))
    return shown | {
        "what_happened": told(record, worked),
        "seconds": record.seconds,
        "fingerprint": record.fingerprint,
        "made_by_run": record.run_id,
        "made_at": record.created_at,
        "files": dg.MetadataValue.json(record.outputs),
        "provenance": dg.MetadataValue.path(str(record.manifest(lake))),
    }


def told(record: Record, worked: bool) -> str:
    """What a run did with a stage, in words."""
    if not worked:
        made = f"made at {record.created_at} in {record.seconds:,.1f} s by run {record.run_id[:8] or 'unknown'}"
        return f"up to date, nothing to do: {made}"
    reasons = record.metadata.get("why") or ["never made"]
    return f"made in {record.seconds:,.1f} s, because: {'; '.join(map(str, reasons))}"


def how_to_force(stage: str, dataset: str) -> str:
    """How to make a stage anew that is up to date, as Markdown."""
    shared = dataset.startswith("_")
    command = "" if shared else f"`rallrec run {dataset} --select {stage} --force`, or here: "
    config = f"ops: {{{stage}: {{config: {{force: true}}}}}}"
    return f"{command}**Materialize** with Shift held, and as configuration `{config}`"


def _name(record: Record, name: str, value: Any, profile: str) -> str:
    """The name of a reported value; a number of a report bears the profile's."""
    is_figure = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{name} ({profile})" if profile and is_figure and record.stage.endswith("_report") else name


def _speed(reported: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """All tokens by all seconds of the stage, loading included, where it reports no other speed."""
    usage: dict[str, int] = reported.get("llm") or {}
    tokens = usage.get("prompt_tokens", 0) + usage.get("new_tokens", 0)
    return {"tokens_per_second": round(tokens / seconds, 1)} if tokens and seconds else {}


def _parts(reported: Mapping[str, Any]) -> dict[str, int | float]:
    """Each number of the figures by name: `splits_train` of `splits`."""
    return {
        f"{name}_{part}": value
        for name, parts in reported.items()
        if isinstance(parts, dict) and len(parts) <= MOST_PARTS
        for part, value in parts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _nothing_done(reported: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a stage that had nothing to do."""
    counts = {name: 0 for name in reported if name.startswith(("rows_", "users_"))}
    counts |= {f"{what}_reused": reported[what] for what in ("rows", "users") if f"{what}_reused" in counts}
    usage = {"llm": dict.fromkeys(reported["llm"], 0)} if "llm" in reported else {}
    work = {name: value for name, value in NO_WORK.items() if name in reported}
    return {**counts, **usage, **work, "why": None}


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
