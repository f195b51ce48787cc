"""What reports tell of the reasoner, read from the tables of its stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rallrec_pipeline.evaluation.measures.merge_curves import CascadeRows, Sweep
from rallrec_pipeline.evaluation.reports.responses import ReasoningParts
from rallrec_pipeline.inference.methods import merges, reasoned_methods
from rallrec_pipeline.lake import tables
from rallrec_pipeline.pipeline.context import StageRun
from rallrec_pipeline.pipeline.reporting.scored import title_of
from rallrec_pipeline.pipeline.stages.reasoning import guide
from rallrec_pipeline.reasoning.opinions import Opinion

READ = ("reasoning_traces", "reasoned_predictions", "merged_predictions")
"""The stages that are told of, besides `samples` and `predictions`."""


def reasoning_parts(run: StageRun) -> ReasoningParts:
    """What is told of the responses, merges and cascades among the inputs of `run`, under its settings."""
    merged = run.inputs.get("merged_predictions")
    told: dict[str, Any] = merged.metadata["merges"] if merged else {}
    users = run.read(tables.SAMPLES).select("sample_id", pl.col("user_id").rank("dense").cast(pl.Int64).alias("user"))
    return ReasoningParts(
        {method.name: method.title for method in reasoned_methods(run.settings)},
        run.read(tables.REASONED_ROWS).join(users, on="sample_id", maintain_order="left"),
        run.read(tables.TRACES),
        run.spec.paper_dataset,
        _general(run),
        _sweeps(run, told, users) if merged else {},
        _cascades(run, told, users) if merged else {},
    )


def _sweeps(run: StageRun, told: dict[str, Any], users: pl.DataFrame) -> dict[str, Sweep]:
    """One for each merge by consistency whose alpha and epsilon are given: others have the same curves."""
    rows, found = _test_rows(run, tables.CONSISTENCIES, users), {}
    for name, merge in merges(run.settings).items():
        own = rows.filter(pl.col("method") == name)
        if merge.kind != "consistency" or merge.choose or not own.height:
            continue
        found[name] = Sweep(
            title_of(name, run.settings),
            Opinion(own["general"].to_numpy(), own["general_variance"].to_numpy()),
            Opinion(own["reasoned"].to_numpy(), own["reasoned_variance"].fill_null(np.inf).to_numpy()),
            own["label"].to_numpy(),
            own["user"].to_numpy(),
            told[name]["alpha"],
            told[name]["epsilon"],
        )
    return found


def _cascades(run: StageRun, told: dict[str, Any], users: pl.DataFrame) -> dict[str, CascadeRows]:
    rows = _test_rows(run, tables.CASCADES, users)
    return {
        str(name): CascadeRows(
            title_of(str(name), run.settings),
            own["label"].to_numpy(),
            own["user"].to_numpy(),
            own["expert"].to_numpy(),
            own["dear"].to_numpy(),
            own["order"].to_numpy(),
            own["asked"].to_numpy(),
            told[str(name)],
        )
        for (name,), own in rows.group_by(["method"], maintain_order=True)
    }


def _test_rows(run: StageRun, table: tables.Table, users: pl.DataFrame) -> pl.DataFrame:
    rows = run.read(table).filter(pl.col("split") == "test")
    return rows.join(users, on="sample_id", maintain_order="left")


def _general(run: StageRun) -> tuple[str, float] | None:
    """The tuned LLM without a thought, which figure 9 sets beside the reasoner: its title, and the seconds of a row."""
    record, name = run.inputs.get("predictions"), guide(run.settings)
    if record is None or name is None or name not in record.metadata["seconds"]:
        return None
    rows = record.metadata["prompts"][name]["prompts"]
    return (title_of(name, run.settings), float(record.metadata["seconds"][name]) / rows) if rows else None
