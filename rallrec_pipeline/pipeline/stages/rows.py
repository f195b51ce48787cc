"""Per-row provenance of a stage: what its rows were made from, what changed, and how the UI shows it."""

from __future__ import annotations

from dataclasses import asdict, replace

import polars as pl

from rallrec_pipeline.evaluation.pages.markdown import short, table
from rallrec_pipeline.lake.increments import SOURCE, compare_rows
from rallrec_pipeline.lake.provenance import hash_column, stable_hash
from rallrec_pipeline.language_models.protocols import Usage
from rallrec_pipeline.pipeline.context import Made, Markdown, StageRun

EXAMPLES = 3
SHOWN_VERSIONS = 10
_VERSION = ("template_version", "model_fingerprint", "run_id")


def item_versions(items: pl.DataFrame) -> pl.DataFrame:
    """`item_id` and the version of each row: the hash of all its fields."""
    return items.select("item_id", pl.Series("version", hash_column(items.iter_rows()), dtype=pl.String))


def with_sources(rows: pl.DataFrame, **sources: pl.DataFrame) -> pl.DataFrame:
    """`rows` with a column `<source>_version` for each table of `item_id` and `version`."""
    for name, versions in sources.items():
        renamed = versions.select("item_id", pl.col("version").alias(f"{name}{SOURCE}"))
        rows = rows.join(renamed, on="item_id", how="left", maintain_order="left")
    return rows


def with_increment(run: StageRun, made: Made, rows: pl.DataFrame, computed: int, usage: Usage) -> Made:
    """`made` with its rows' provenance, what the increment was, and what it cost the LLM."""
    increment = compare_rows(rows, run.previous_rows(), computed)
    shown = {"provenance_table": Markdown(provenance_table(rows)), "llm": asdict(usage)}
    return replace(
        made,
        metadata={**made.metadata, **increment.as_metadata(), **shown},
        rows=rows,
        version=rows_version(rows),
    )


def rows_version(rows: pl.DataFrame) -> str:
    """Data version of a table: that of its rows in their order, whatever run made them."""
    return stable_hash(rows["item_id"].to_list(), rows["data_version"].to_list())


def provenance_table(rows: pl.DataFrame) -> str:
    """Versions in use with their row counts, and a few rows with their chain, as Markdown."""
    kinds = rows.group_by(_VERSION, maintain_order=True).agg(
        pl.len().alias("rows"),
        _minute(pl.col("created_at").min(), "first"),
        _minute(pl.col("created_at").max(), "last"),
    )
    kinds = kinds.sort("rows", descending=True)
    header = ["template", "model", "run", "rows", "first made", "last made"]
    lines = table(header, (map(short, row) for row in kinds.head(SHOWN_VERSIONS).rows()))
    if kinds.height > SHOWN_VERSIONS:
        lines.append(f"\n… and {kinds.height - SHOWN_VERSIONS} more versions")
    chain = ["item_id", *(c for c in rows.columns if c.endswith(SOURCE) and c not in (*_VERSION, "data_version"))]
    chain += ["input_hash", "data_version", "run_id"]
    examples = rows.select(chain).gather_every(max(1, rows.height // EXAMPLES)).head(EXAMPLES)
    return "\n".join([*lines, "", *table(chain, (map(short, row) for row in examples.rows()))])


def _minute(created_at: pl.Expr, name: str) -> pl.Expr:
    """A time to the minute, short enough for a cell."""
    return created_at.str.slice(0, 16).str.replace("T", " ").alias(name)
